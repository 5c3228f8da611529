//! Messages to contracts of any cluster.

use crate::ext;
use ink::{primitives::AccountId, scale::Encode};

pub use crate::types::MessageError;

/// Calls a message of another contract, in whichever cluster that is, some seconds later; nothing comes back but what it
/// sends itself. `arguments` are a tuple of the message's arguments; one argument is a tuple of one, `(x,)`, or itself.
///
/// The message is executed exactly once, and after all that this contract sent to contracts of that cluster before. Its
/// caller is this contract, which nobody can pretend to be. `value` goes along, at least 0.0001 PHA or nothing. If there
/// is no such contract, or it fails or refuses, the value comes back and the contract's log says so; so does what the
/// other pays to its caller. It has as much gas as a message of the chain has.
///
/// Others see on the chain that this contract sent something to that one, with how much money and of about what length;
/// what it is, only the other cluster sees. Contracts that the chain has placed can send, those that contracts create
/// cannot: their messages come back. In a query nothing leaves.
///
/// ```
/// # let mock = pink::mock::install();
/// # mock.set_balance(5_000_000_000_000);
/// let shop = [2; 32].into();
/// assert_eq!(pink::send_message(shop, ink::selector_bytes!("pay"), &("order 7",), 2_000_000_000_000), Ok(()));
/// let too_much = pink::send_message(shop, ink::selector_bytes!("pay"), &("order 8",), 4_000_000_000_000);
/// assert_eq!(too_much, Err(pink::MessageError::TooLittle));
/// let (to, input, value) = mock.messages().remove(0);
/// assert_eq!((to, &input[..4], value), (shop, &ink::selector_bytes!("pay")[..], 2_000_000_000_000));
/// ```
pub fn send_message(
    to: AccountId,
    selector: [u8; 4],
    arguments: &impl Encode,
    value: u128,
) -> Result<(), MessageError> {
    let mut input = selector.to_vec();
    arguments.encode_to(&mut input);
    ext().message(to, input, value).0
}
