//! Words that were given up, each with the word in its place. docs/glossary.md explains those.

/// Where they are looked for.
pub const SEARCHED: &[&str] =
    &["src", "tests", "benches", "examples", "tools", "docs", "api", "README.md", "CONTRIBUTING.md", "build.rs"];

/// The files that are text for people; a file without an extension is a script.
pub const EXTENSIONS: &[&str] = &["rs", "md", "proto", "yml", "toml", "go", "c"];

/// Retired in code, comments, strings and pages alike.
pub const EVERYWHERE: &[(&str, &str)] = &[
    ("straggler", "a replica that has not acknowledged; what is kept for it is a hint"),
    ("stragglers", "replicas that have not acknowledged; what is kept for them are hints"),
    ("acquaintance", "peer record"),
    ("acquaintances", "peer records"),
    ("acquainted", "on_hello, on_recorded"),
    ("Acquaintance", "PeerRecord"),
    ("Straggler", "Hint"),
    ("Stragglers", "HintQueue"),
    ("Promptness", "LatencyTracker"),
    ("promptness", "latency"),
    ("Surroundings", "ReplicaCtx"),
    ("Observatory", "RequestMetrics"),
    ("yardstick", "baseline"),
    ("yardsticks", "baselines"),
    ("Yardstick", "Baseline"),
    ("bears_promises", "has_metadata"),
];

/// Retired in pages for people: metaphors that a term replaces.
pub const IN_PAGES: &[(&str, &str)] =
    &[("house", "layers, or the source tree"), ("floor", "layer"), ("floors", "layers")];

/// Retired as names in Rust code, where prose may use the word.
pub const NAMES: &[(&str, &str)] = &[
    ("Journal", "GroupCommit"),
    ("journal", "group_commit"),
    ("Owed", "PendingAck"),
    ("Due", "PendingAck"),
    ("owe", "ack_after"),
    ("pay", "complete"),
    ("refuse_to_pay", "abort"),
    ("ForTheNext", "Batch::Next"),
    ("Held", "Lookup"),
    ("Want", "ReadKind"),
    ("Life", "Incarnation"),
    ("Said", "ReplicaStatus"),
    ("Whom", "Fanout"),
    ("Usual", "RttEstimator"),
    ("patience", "hedge_delay for a peer, timeout for a request"),
    ("was_late", "mark_slow"),
    ("Note", "ProtocolEvent"),
    ("swamped", "overloaded"),
    ("Swamped", "Overloaded"),
    ("hurry", "hedge_now"),
    ("counts_on_no_more", "exclude"),
    ("counts_on_again", "readmit"),
    ("ask_these", "send_to"),
    ("ask_the_others", "hedge"),
    ("pass_answers_on", "deliver_local"),
    ("introduced", "on_hello"),
    ("meet_anew", "rehandshake"),
    ("Assembly", "Reassembler"),
    ("Credit", "SendWindow"),
    ("credit", "send_window"),
    ("Recent", "RecordCache"),
    ("Moment", "CacheVersion"),
    ("putting", "insert_lock"),
    ("Patience", "ReadTier"),
    ("MemoryOnly", "ReadTier::Memory"),
    ("MayWait", "ReadTier::Disk"),
    ("WouldWait", "WouldBlock"),
    ("Unfound", "LookupError"),
    ("Asker", "Dispatcher"),
    ("Subject", "ErrorContext"),
    ("Purpose", "Access"),
    ("Front", "Frontend"),
    ("Transit", "BufferBudget"),
    ("Share", "BudgetGuard"),
    ("misplaced", "unexpected_reply"),
    ("Turns", "EventLoop"),
    ("carry_out", "apply"),
    ("remind", "log_not_ready"),
    ("forming", "bootstrapping"),
    ("formed", "bootstrapped"),
    ("form_if_met", "bootstrap"),
    ("uneven", "jittered"),
    ("Written", "Set for clients, Stored between replicas"),
];
