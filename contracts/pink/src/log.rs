//! What a contract says, and who may read it.
//!
//! Lines of commands are kept by every replica, those of queries by the one that answered. `phala logs` shows them to
//! the contract's owner and to whom [`allow_log`] names; a command that fails says nothing.

use crate::ext;
use ink::primitives::AccountId;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Something failed.
    Error = 1,
    /// Something is odd.
    Warn = 2,
    /// Something happened.
    Info = 3,
    /// For whoever looks for a mistake.
    Debug = 4,
    /// Everything else.
    Trace = 5,
}

/// Says a line; the macros format it. What is beyond 16 KiB is cut off.
///
/// ```
/// # let mock = pink::mock::install();
/// pink::log(pink::Level::Info, "done");
/// # assert_eq!(mock.lines(), [(3, "done".to_string())]);
/// ```
pub fn log(level: Level, text: &str) {
    ext().log(level as u8, text);
}

/// Says that something failed.
///
/// ```
/// # let _mock = pink::mock::install();
/// pink::error!("no answer from {}", "https://example.com/");
/// ```
#[macro_export]
macro_rules! error {
    ($($text:tt)+) => { $crate::log($crate::Level::Error, &$crate::private::format!($($text)+)) };
}

/// Says that something is odd.
///
/// ```
/// # let _mock = pink::mock::install();
/// pink::warn!("the answer is {} seconds old", 90);
/// ```
#[macro_export]
macro_rules! warn {
    ($($text:tt)+) => { $crate::log($crate::Level::Warn, &$crate::private::format!($($text)+)) };
}

/// Says that something happened.
///
/// ```
/// # let _mock = pink::mock::install();
/// pink::info!("updated");
/// ```
#[macro_export]
macro_rules! info {
    ($($text:tt)+) => { $crate::log($crate::Level::Info, &$crate::private::format!($($text)+)) };
}

/// Says something to whoever looks for a mistake.
///
/// ```
/// # let _mock = pink::mock::install();
/// pink::debug!("{:?}", Some(1));
/// ```
#[macro_export]
macro_rules! debug {
    ($($text:tt)+) => { $crate::log($crate::Level::Debug, &$crate::private::format!($($text)+)) };
}

/// Says everything else.
///
/// ```
/// # let _mock = pink::mock::install();
/// pink::trace!("step {}", 3);
/// ```
#[macro_export]
macro_rules! trace {
    ($($text:tt)+) => { $crate::log($crate::Level::Trace, &$crate::private::format!($($text)+)) };
}

/// Lets an account read the contract's log. To be called in a command; a query changes nothing. The contract has to
/// see to it who may ask for this.
///
/// ```
/// # let mock = pink::mock::install();
/// pink::allow_log([1; 32].into());
/// # assert!(mock.may_read_log([1; 32].into()));
/// ```
pub fn allow_log(who: AccountId) {
    ext().log_reader(Some(who), true);
}

/// Takes back what [`allow_log`] allowed this account.
///
/// ```
/// # let mock = pink::mock::install();
/// # pink::allow_log([1; 32].into());
/// pink::deny_log([1; 32].into());
/// # assert!(!mock.may_read_log([1; 32].into()));
/// ```
pub fn deny_log(who: AccountId) {
    ext().log_reader(Some(who), false);
}

/// Lets everyone read the contract's log.
///
/// ```
/// # let mock = pink::mock::install();
/// pink::allow_log_to_all();
/// # assert!(mock.may_read_log([1; 32].into()));
/// ```
pub fn allow_log_to_all() {
    ext().log_reader(None, true);
}

/// Takes back what [`allow_log_to_all`] allowed. Accounts that were allowed by name stay so.
///
/// ```
/// # let mock = pink::mock::install();
/// # pink::allow_log_to_all();
/// pink::deny_log_to_all();
/// # assert!(!mock.may_read_log([1; 32].into()));
/// ```
pub fn deny_log_to_all() {
    ext().log_reader(None, false);
}
