//! One member of a cluster: orders, executes and answers, as a pure state machine
