//! A chain node: executes the runtime, keeps its trie, pools extrinsics, builds and verifies blocks
