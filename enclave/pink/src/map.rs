//! A query that splits its work over many inputs.
//!
//! Each part calls a message of the contract that asks, by itself, to read, on the state that the query started from. Who
//! computes it is the host's choice ([`Outside::map`](crate::Outside::map)): the parts are independent of each other, and
//! the answers come back in the order of the inputs. A part that fails is an answer, too; the others go on.

use codec::{Decode, Encode};
use phala_primitives::Code;
use phala_vm::{Execution, Failure, Fork, Part};

/// Why a part has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum MapError {
    /// The contract took it back, and returned this.
    Reverted(Vec<u8>),
    /// It failed with the error of this number.
    Failed(u16),
}

/// What came of a part.
pub type MapResult = Result<Vec<u8>, MapError>;

impl From<Code> for MapError {
    fn from(code: Code) -> Self {
        Self::Failed(code as u16)
    }
}

/// What a contract returned, with the flags of its execution, as a part's result.
pub fn returned(flags: u32, data: Vec<u8>) -> MapResult {
    if flags & Execution::REVERT != 0 { Err(MapError::Reverted(data)) } else { Ok(data) }
}

/// The parts of one query.
pub struct Parts {
    fork: Fork,
    inputs: Vec<Vec<u8>>,
    room: usize,
}

impl Parts {
    /// Parts that call the message of this selector with these arguments. Their answers may have `room` bytes together.
    pub(crate) fn new(fork: Fork, selector: [u8; 4], arguments: Vec<Vec<u8>>, room: usize) -> Self {
        let inputs = arguments.into_iter().map(|arguments| [&selector[..], &arguments].concat()).collect();
        Self { fork, inputs, room }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.inputs.len()
    }

    /// The query that waits for them.
    pub fn fork(&self) -> &Fork {
        &self.fork
    }

    /// One of them, ready to be run.
    pub fn part(&self, index: usize) -> Option<Part> {
        self.inputs.get(index).map(|input| self.fork.part(input.clone()))
    }

    /// A place for their results.
    pub fn results(&self) -> Results {
        Results { all: vec![None; self.inputs.len()], missing: self.inputs.len(), room: self.room }
    }

    /// Runs all of them here, one after the other.
    pub fn run_all(&self) -> Vec<MapResult> {
        let mut results = self.results();
        for (index, input) in self.inputs.iter().enumerate() {
            results.put(index, outcome(self.fork.run(self.fork.part(input.clone()))));
        }
        results.finish()
    }
}

/// What an execution came to, as a part's result.
pub fn outcome(execution: Result<Execution, Failure>) -> MapResult {
    match execution {
        Ok(execution) => returned(execution.flags, execution.data),
        Err(failure) => Err(failure.code().into()),
    }
}

/// Results as they come, each once.
pub struct Results {
    all: Vec<Option<MapResult>>,
    missing: usize,
    room: usize,
}

impl Results {
    /// Keeps the result of a part, unless there is one. An answer for which there is no room becomes `ReplyTooLarge`.
    pub fn put(&mut self, index: usize, result: MapResult) {
        let Some(place) = self.all.get_mut(index).filter(|place| place.is_none()) else { return };
        let length = match &result {
            Ok(data) | Err(MapError::Reverted(data)) => data.len(),
            Err(MapError::Failed(_)) => 0,
        };
        self.missing = self.missing.saturating_sub(1);
        *place = Some(match self.room.checked_sub(length) {
            Some(left) => {
                self.room = left;
                result
            }
            None => Err(Code::ReplyTooLarge.into()),
        });
    }

    /// Whether there is a result of this part.
    pub fn has(&self, index: usize) -> bool {
        self.all.get(index).is_some_and(Option::is_some)
    }

    /// How many are missing.
    pub fn missing(&self) -> usize {
        self.missing
    }

    /// All results in order; those that are missing did not come in time.
    pub fn finish(&mut self) -> Vec<MapResult> {
        let all = std::mem::take(&mut self.all);
        all.into_iter().map(|result| result.unwrap_or_else(|| Err(Code::TimeLimit.into()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_kept_once_in_order_and_bounded() {
        let mut results = Results { all: vec![None; 4], missing: 4, room: 10 };
        results.put(2, Ok(vec![2; 6]));
        results.put(2, Ok(vec![9; 1]));
        results.put(0, Ok(vec![0; 5]));
        results.put(1, Err(MapError::Reverted(vec![1; 4])));
        results.put(7, Ok(vec![]));
        assert!(results.has(1) && !results.has(3) && !results.has(7) && results.missing() == 1);
        let expected = vec![
            Err(Code::ReplyTooLarge.into()),
            Err(MapError::Reverted(vec![1; 4])),
            Ok(vec![2; 6]),
            Err(Code::TimeLimit.into()),
        ];
        assert_eq!(results.finish(), expected);
    }
}
