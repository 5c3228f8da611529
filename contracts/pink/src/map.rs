//! A query that splits its work over the cores and replicas of its cluster.

use crate::{ext, MapError, MapResult};
use ink::{
    prelude::vec::Vec,
    scale::{Decode, Encode},
};

/// Why a part has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PartError {
    /// The message took it back, or refused its arguments, and returned these bytes.
    Reverted(Vec<u8>),
    /// It failed with the error of this number; the network's `docs/errors.md` explains each.
    Failed(u16),
    /// Its answer is of another type than the one that is wanted.
    Undecodable,
}

/// Calls a message of this contract once for each input, all at once, and returns the answers in the order of the inputs.
///
/// The parts run on all cores of the replica that was asked and on the other replicas of the cluster. Each sees the state
/// as it was when the query began, with nothing of what this query wrote, and may only read (`&self`). A part cannot
/// split its own work again. One that fails is an error in its place; the others go on. All must be done when the
/// query's time is over. The message should be one that nobody else needs, or check its caller: it is called by the
/// contract itself.
///
/// In queries only: a command traps. So does a query with more parts than the cluster allows (1024), or with more bytes of
/// arguments than a query's input may have (16 MiB). Answers and arguments, all together, go through ink!'s static
/// buffer, see the crate's documentation. An answer for which there is no room is an error.
///
/// A part costs about a third of a millisecond besides its own work, at another replica about one. It should therefore
/// compute for some milliseconds at least.
///
/// ```ignore
/// #[ink(message)]
/// pub fn rows(&self, height: u32) -> Vec<Vec<u8>> {
///     let rows = pink::map::<_, Vec<u8>>(ink::selector_bytes!("row"), (0..height).map(|y| (y, height)));
///     rows.into_iter().map(|row| row.expect("a row fails only with the query")).collect()
/// }
///
/// #[ink(message)]
/// pub fn row(&self, y: u32, height: u32) -> Vec<u8> {
///     // …
/// }
/// ```
///
/// The inputs are tuples of the message's arguments; one argument is a tuple of one, `(y,)`, or itself.
pub fn map<I: Encode, O: Decode>(
    selector: [u8; 4],
    inputs: impl IntoIterator<Item = I>,
) -> Vec<Result<O, PartError>> {
    let inputs: Vec<Vec<u8>> = inputs.into_iter().map(|input| input.encode()).collect();
    ext().map(selector, inputs).into_iter().map(answer).collect()
}

/// What a message returned. ink! puts a byte in front that says whether it was called at all.
fn answer<O: Decode>(result: MapResult) -> Result<O, PartError> {
    match result {
        Ok(bytes) => match bytes.split_first() {
            Some((0, mut rest)) => O::decode(&mut rest).map_err(|_| PartError::Undecodable),
            _ => Err(PartError::Reverted(bytes)),
        },
        Err(MapError::Reverted(bytes)) => Err(PartError::Reverted(bytes)),
        Err(MapError::Failed(code)) => Err(PartError::Failed(code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_answer_in_order_and_fail_alone() {
        let mock = crate::mock::install();
        mock.on_part([1, 2, 3, 4], |input| {
            let number = u32::decode(&mut &*input).expect("the test encodes it");
            match number {
                7 => Err(MapError::Failed(2006)),
                8 => Ok(Vec::from([1, 1])),
                9 => Ok(Vec::from([0])),
                _ => Ok((0u8, number * 2).encode()),
            }
        });
        let answers = map::<_, u32>([1, 2, 3, 4], [1u32, 7, 8, 9, 20]);
        let expected = [
            Ok(2),
            Err(PartError::Failed(2006)),
            Err(PartError::Reverted(Vec::from([1, 1]))),
            Err(PartError::Undecodable),
            Ok(40),
        ];
        assert_eq!(answers, expected);
        assert!(map::<u32, u32>([1, 2, 3, 4], []).is_empty());
    }
}
