//! What contracts of a cluster may use.
//!
//! Who created a cluster sets its policy on the chain; until then it is [`ClusterPolicy::DEFAULT`]. What a command comes
//! to depends on it, so it enters the cluster by a command that proves what the chain holds, and every replica uses it
//! from the same place in the log on. Its version only grows, so that an old proof changes nothing.

use codec::{Decode, DecodeWithMemTracking, Encode, MaxEncodedLen};
use scale_info::TypeInfo;

/// How a limit is written by people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Millis,
    /// How many.
    Count,
}

/// One limit of a policy.
pub struct Field {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is counted in.
    pub unit: Unit,
    /// Its least value.
    pub least: u64,
    /// Its greatest value.
    pub most: u64,
    /// What it limits.
    pub meaning: &'static str,
    /// Its value in a policy.
    pub get: fn(&ClusterPolicy) -> u64,
    /// Where its value lies in a policy.
    pub place: fn(&mut ClusterPolicy) -> &mut u64,
}

macro_rules! policy {
    ($($field:ident $name:literal $unit:ident $default:expr, $least:expr => $most:expr, $meaning:literal;)*) => {
        /// Limits of a cluster. Light clients read it, so the encoding is frozen.
        #[derive(
            Clone, Copy, PartialEq, Eq, Debug, Encode, Decode, DecodeWithMemTracking, MaxEncodedLen, TypeInfo,
        )]
        pub struct ClusterPolicy {
            /// Grows with each change; 0 is the default.
            pub version: u64,
            $(#[doc = $meaning] pub $field: u64,)*
        }

        impl ClusterPolicy {
            /// What a cluster begins with.
            pub const DEFAULT: Self = Self { version: 0, $($field: $default,)* };
            /// All limits, in the order of the encoding.
            pub const FIELDS: &'static [Field] = &[$(Field {
                name: $name,
                unit: Unit::$unit,
                least: $least,
                most: $most,
                meaning: $meaning,
                get: |policy| policy.$field,
                place: |policy| &mut policy.$field,
            },)*];
        }
    };
}

policy! {
    memory_bytes "memory" Bytes 64 << 20, 1 << 20 => 1 << 30,
        "Linear memory of one call of a contract.";
    total_memory_bytes "total-memory" Bytes 1 << 30, 1 << 20 => 8 << 30,
        "Linear memory of all calls under way for one contract, its callees included.";
    query_ms "query" Millis 10_000, 10 => 600_000,
        "Longest time of a query.";
    message_bytes "message" Bytes 16 << 20, 64 << 10 => 16 << 20,
        "Largest input and output of a query or command.";
    code_bytes "code" Bytes 16 << 20, 64 << 10 => 16 << 20,
        "Largest code of a contract.";
    value_bytes "value" Bytes 64 << 10, 1 << 10 => 1 << 20,
        "Largest value under a storage key.";
    call_depth "depth" Count 16, 1 => 32,
        "How many contracts may be under way inside each other, the first included.";
    queries "queries" Count 64, 1 => 256,
        "Queries of one contract that may be under way at one replica.";
    http_requests "http" Count 16, 0 => 16,
        "HTTP requests that one query may make at once; 0 forbids them, also to commands.";
    jobs "jobs" Count 1024, 0 => 16_384,
        "Requests and timers of one contract that may wait.";
    map_parts "map" Count 1024, 0 => 4096,
        "Parts into which a query may split its work at once.";
    replace_ms "replace" Millis 600_000, 5_000 => 86_400_000,
        "How long a member may be silent before the others have it replaced.";
    recover_ms "recover" Millis 3_600_000, 60_000 => 604_800_000,
        "How long a cluster may stand still before it goes on without the members that are gone.";
}

impl ClusterPolicy {
    /// The first limit that is out of its range.
    pub fn out_of_range(&self) -> Option<&'static Field> {
        Self::FIELDS.iter().find(|field| !(field.least..=field.most).contains(&(field.get)(self)))
    }
}

impl Default for ClusterPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_frozen() {
        let policy = ClusterPolicy { version: 1, ..ClusterPolicy::DEFAULT };
        let numbers: Vec<u64> = vec![
            1,
            67_108_864,
            1_073_741_824,
            10_000,
            16_777_216,
            16_777_216,
            65_536,
            16,
            64,
            16,
            1024,
            1024,
            600_000,
            3_600_000,
        ];
        let bytes: Vec<u8> = numbers.into_iter().flat_map(u64::to_le_bytes).collect();
        assert_eq!(policy.encode(), bytes);
    }

    #[test]
    fn a_limit_out_of_range_is_named() {
        assert!(ClusterPolicy::DEFAULT.out_of_range().is_none());
        for field in ClusterPolicy::FIELDS {
            let mut policy = ClusterPolicy::DEFAULT;
            for value in [field.least, field.most] {
                *(field.place)(&mut policy) = value;
                assert!(policy.out_of_range().is_none(), "{}", field.name);
            }
            *(field.place)(&mut policy) = field.most + 1;
            assert_eq!(policy.out_of_range().map(|field| field.name), Some(field.name));
        }
    }
}
