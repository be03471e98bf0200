//! The table of commands: their names, arguments, keys and differences from Redis.
//!
//! Contract: COMMAND, COMMAND DOCS, the check of the number of arguments, the keys that order a pipeline, and the tables of
//! docs/redis.md are made from it. So is what a caller needs, once the node asks who calls.

use crate::auth::{Needs, Right};

/// A command that is served.
#[derive(Debug)]
pub(super) struct Spec {
    /// In lower case.
    pub(super) name: &'static str,
    pub(super) id: Id,
    /// The number of arguments with the name; at least so many where it is negative.
    pub(super) arity: i64,
    pub(super) access: Access,
    pub(super) keys: Keys,
    pub(super) group: Group,
    /// The version of Redis that has it first, or of Valkey.
    pub(super) since: &'static str,
    pub(super) summary: &'static str,
    /// The difference from Redis; empty if there is none.
    pub(super) differs: &'static str,
}

/// The kind of access that a command needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
    /// Neither keys nor values.
    Neither,
    /// Nothing: it is how a caller gets known, or goes.
    Open,
}

/// The arguments that are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    None,
    /// The first argument after the name.
    One,
    /// All arguments after the name.
    Every,
    /// Every second argument, from the first after the name.
    Pairs,
    /// No argument: any key may be read.
    Any,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    String,
    Generic,
    Connection,
    Server,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    Append,
    Auth,
    Client,
    Command,
    Config,
    Dbsize,
    Decr,
    Decrby,
    Del,
    Delex,
    Delifeq,
    Echo,
    Exists,
    Expire,
    Expireat,
    Expiretime,
    Get,
    Getdel,
    Getex,
    Getrange,
    Getset,
    Hello,
    Incr,
    Incrby,
    Incrbyfloat,
    Info,
    Keys,
    Mget,
    Mset,
    Persist,
    Pexpire,
    Pexpireat,
    Pexpiretime,
    Ping,
    Psetex,
    Pttl,
    Qcas,
    Qgetv,
    Quit,
    Reset,
    Scan,
    Select,
    Set,
    Setex,
    Setnx,
    Setrange,
    Strlen,
    Time,
    Ttl,
    Type,
}

impl Spec {
    /// Whether it takes `count` arguments, its name included.
    pub(super) fn takes(&self, count: usize) -> bool {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let fits = if self.arity < 0 { count >= -self.arity } else { count == self.arity };
        // Pairs come whole.
        fits && (self.keys != Keys::Pairs || count % 2 == 1)
    }

    /// What its caller needs.
    pub(super) fn needs(&self) -> Needs {
        match self.access {
            Access::Read => Needs::Keys(Right::Read),
            Access::Write => Needs::Keys(Right::Write),
            Access::Neither => Needs::Identity,
            Access::Open => Needs::Nothing,
        }
    }

    /// The positions of its keys, as COMMAND says them: the first, the last (negative from the end), and the step.
    pub(super) fn key_range(&self) -> (i64, i64, i64) {
        match self.keys {
            Keys::None | Keys::Any => (0, 0, 0),
            Keys::One => (1, 1, 1),
            Keys::Every => (1, -1, 1),
            Keys::Pairs => (1, -1, 2),
        }
    }
}

/// The command of this name, in any case.
pub(super) fn find(name: &[u8]) -> Option<&'static Spec> {
    const LONGEST: usize = 16;
    let mut lower = [0; LONGEST];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let at = COMMANDS.binary_search_by(|spec| spec.name.as_bytes().cmp(lower)).ok()?;
    Some(&COMMANDS[at])
}

/// Why a command of Redis is not served; `None` if Redis has none of this name, or one of modules.
pub(super) fn refusal(name: &[u8]) -> Option<&'static str> {
    let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
    let refused = NOT_SERVED.iter().find(|refused| refused.names.split(' ').any(|refused| refused == name));
    refused.map(|refused| refused.why)
}

/// Commands that are not served, and why.
#[derive(Debug)]
pub(super) struct Refused {
    /// In lower case, parted by spaces.
    pub(super) names: &'static str,
    pub(super) why: &'static str,
}

#[expect(clippy::too_many_arguments, reason = "they are the columns of the table below")]
const fn row(
    name: &'static str,
    id: Id,
    arity: i64,
    access: Access,
    keys: Keys,
    group: Group,
    since: &'static str,
    summary: &'static str,
) -> Spec {
    Spec { name, id, arity, access, keys, group, since, summary, differs: "" }
}

impl Spec {
    const fn differs(self, differs: &'static str) -> Self {
        Self { differs, ..self }
    }
}

use Access::{Neither, Open, Read, Write};
use Group::{Connection, Generic, Server, String};

const TEN_YEARS: &str = "times to live are at most ten years";

/// All commands, by name.
pub(super) const COMMANDS: [Spec; 52] = [
    row("append", Id::Append, 3, Write, Keys::One, String, "2.0.0", "Adds to the end of a value."),
    row("auth", Id::Auth, -2, Open, Keys::None, Connection, "1.0.0", "Names a user and a password.").differs(
        "with authorization the password is a token, for any user; without it any is right for the user `default`",
    ),
    row("client", Id::Client, -2, Neither, Keys::None, Connection, "2.4.0", "Tells of this connection, and names it.")
        .differs(
            "ID, GETNAME, SETNAME, SETINFO, NO-EVICT, NO-TOUCH, INFO and LIST alone; LIST shows this connection alone",
        ),
    row("command", Id::Command, -1, Neither, Keys::None, Server, "2.8.13", "Describes commands.")
        .differs("COUNT, DOCS, INFO and LIST alone"),
    row("config", Id::Config, -2, Neither, Keys::None, Server, "2.0.0", "Tells settings.")
        .differs("GET alone, of a few settings that clients ask for"),
    row("dbsize", Id::Dbsize, 1, Read, Keys::Any, Server, "1.0.0", "Counts the keys.")
        .differs("exact up to 10,000 keys; beyond them an estimate, deleted keys included"),
    row("decr", Id::Decr, 2, Write, Keys::One, String, "1.0.0", "Subtracts one from a number."),
    row("decrby", Id::Decrby, 3, Write, Keys::One, String, "1.0.0", "Subtracts from a number."),
    row("del", Id::Del, -2, Write, Keys::Every, Generic, "1.0.0", "Deletes keys.")
        .differs("each key on its own: not atomic over several; 20,000 keys at most"),
    row(
        "delex",
        Id::Delex,
        -2,
        Write,
        Keys::One,
        Generic,
        "8.4.0",
        "Deletes a key if its value is, or is not, the given one.",
    )
    .differs("IFEQ and IFNE alone"),
    row("delifeq", Id::Delifeq, 3, Write, Keys::One, Generic, "9.0.0", "Deletes a key if its value is the given one."),
    row("echo", Id::Echo, 2, Neither, Keys::None, Connection, "1.0.0", "Answers the text that it was given."),
    row("exists", Id::Exists, -2, Read, Keys::Every, Generic, "1.0.0", "Counts those of the keys that have a value.")
        .differs("each key on its own: not one moment for all; 20,000 keys at most"),
    row("expire", Id::Expire, -3, Write, Keys::One, Generic, "1.0.0", "Sets a time to live, in seconds.")
        .differs(TEN_YEARS),
    row(
        "expireat",
        Id::Expireat,
        -3,
        Write,
        Keys::One,
        Generic,
        "1.2.0",
        "Sets the time of day of expiry, in seconds.",
    )
    .differs("by the clock of the node that is asked; times to live are at most ten years"),
    row(
        "expiretime",
        Id::Expiretime,
        2,
        Read,
        Keys::One,
        Generic,
        "7.0.0",
        "Tells the time of day of expiry, in seconds.",
    )
    .differs("by the clock of the node that is asked"),
    row("get", Id::Get, 2, Read, Keys::One, String, "1.0.0", "Reads a value."),
    row("getdel", Id::Getdel, 2, Write, Keys::One, String, "6.2.0", "Reads a value and deletes it."),
    row("getex", Id::Getex, -2, Write, Keys::One, String, "6.2.0", "Reads a value and sets its time to live.")
        .differs("times to live are at most ten years; PERSIST as the command PERSIST"),
    row("getrange", Id::Getrange, 4, Read, Keys::One, String, "2.4.0", "Reads a part of a value."),
    row("getset", Id::Getset, 3, Write, Keys::One, String, "1.0.0", "Writes a value and reads the one before."),
    row("hello", Id::Hello, -1, Open, Keys::None, Connection, "6.0.0", "Chooses the version of the protocol."),
    row("incr", Id::Incr, 2, Write, Keys::One, String, "1.0.0", "Adds one to a number."),
    row("incrby", Id::Incrby, 3, Write, Keys::One, String, "1.0.0", "Adds to a number."),
    row("incrbyfloat", Id::Incrbyfloat, 3, Write, Keys::One, String, "2.6.0", "Adds a fraction to a number.")
        .differs("sums are exact up to 17 places; beyond them they have 53 bits, and not 64"),
    row("info", Id::Info, -1, Neither, Keys::None, Server, "1.0.0", "Tells of the node.")
        .differs("server, clients, memory, stats, replication and keyspace, with few fields"),
    row("keys", Id::Keys, 2, Read, Keys::Any, Generic, "1.0.0", "Lists the keys that fit a pattern.")
        .differs("in the order of their bytes; not one moment for all; an error beyond 100,000 keys"),
    row("mget", Id::Mget, -2, Read, Keys::Every, String, "1.0.0", "Reads values.")
        .differs("each key on its own: not one moment for all; 20,000 keys at most, and 60 MiB for each thousand"),
    row("mset", Id::Mset, -3, Write, Keys::Pairs, String, "1.0.1", "Writes values.")
        .differs("each key on its own: not atomic over several; 10,000 keys at most"),
    row("persist", Id::Persist, 2, Write, Keys::One, Generic, "2.2.0", "Takes the time to live away.")
        .differs("refused in a table with a default time to live"),
    row("pexpire", Id::Pexpire, -3, Write, Keys::One, Generic, "2.6.0", "Sets a time to live, in milliseconds.")
        .differs(TEN_YEARS),
    row(
        "pexpireat",
        Id::Pexpireat,
        -3,
        Write,
        Keys::One,
        Generic,
        "2.6.0",
        "Sets the time of day of expiry, in milliseconds.",
    )
    .differs("by the clock of the node that is asked; times to live are at most ten years"),
    row(
        "pexpiretime",
        Id::Pexpiretime,
        2,
        Read,
        Keys::One,
        Generic,
        "7.0.0",
        "Tells the time of day of expiry, in milliseconds.",
    )
    .differs("by the clock of the node that is asked"),
    row("ping", Id::Ping, -1, Neither, Keys::None, Connection, "1.0.0", "Answers."),
    row(
        "psetex",
        Id::Psetex,
        4,
        Write,
        Keys::One,
        String,
        "2.6.0",
        "Writes a value with a time to live, in milliseconds.",
    )
    .differs(TEN_YEARS),
    row("pttl", Id::Pttl, 2, Read, Keys::One, Generic, "2.6.0", "Tells the time to live, in milliseconds."),
    row(
        "qcas",
        Id::Qcas,
        4,
        Write,
        Keys::One,
        String,
        "",
        "Writes a value if the key has the version; answers the new version, or nil.",
    )
    .differs("Quorate's own"),
    row("qgetv", Id::Qgetv, 2, Read, Keys::One, String, "", "Reads the version of a key, and its value or nil.")
        .differs("Quorate's own"),
    row("quit", Id::Quit, -1, Open, Keys::None, Connection, "1.0.0", "Ends the connection."),
    row("reset", Id::Reset, 1, Open, Keys::None, Connection, "6.2.0", "Puts the connection into its first state."),
    row("scan", Id::Scan, -2, Read, Keys::Any, Generic, "2.8.0", "Lists keys, page by page.").differs(
        "in the order of their bytes, each key once; a cursor is known to its node alone, and for the last 4,096 pages",
    ),
    row("select", Id::Select, 2, Neither, Keys::None, Connection, "1.0.0", "Chooses a database.").differs("0 alone"),
    row(
        "set",
        Id::Set,
        -3,
        Write,
        Keys::One,
        String,
        "1.0.0",
        "Writes a value, on conditions and with a time to live.",
    )
    .differs("IFEQ and IFNE as in Redis 8.4; times to live are at most ten years"),
    row("setex", Id::Setex, 4, Write, Keys::One, String, "2.0.0", "Writes a value with a time to live, in seconds.")
        .differs(TEN_YEARS),
    row("setnx", Id::Setnx, 3, Write, Keys::One, String, "1.0.0", "Writes a value if the key has none."),
    row("setrange", Id::Setrange, 4, Write, Keys::One, String, "2.2.0", "Overwrites a part of a value."),
    row("strlen", Id::Strlen, 2, Read, Keys::One, String, "2.2.0", "Tells the length of a value."),
    row("substr", Id::Getrange, 4, Read, Keys::One, String, "1.0.0", "Reads a part of a value."),
    row("time", Id::Time, 1, Neither, Keys::None, Server, "2.6.0", "Tells the time of day of the node."),
    row("ttl", Id::Ttl, 2, Read, Keys::One, Generic, "1.0.0", "Tells the time to live, in seconds."),
    row("type", Id::Type, 2, Read, Keys::One, Generic, "1.0.0", "Tells the type of a value: `string` or `none`."),
    row("unlink", Id::Del, -2, Write, Keys::Every, Generic, "4.0.0", "Deletes keys.").differs("the same as DEL"),
];

/// Commands of Redis that are not served.
pub(super) const NOT_SERVED: [Refused; 10] = [
    Refused {
        names: "multi exec discard watch unwatch msetnx",
        why: "no operation spans several keys: change one key with SET … IFEQ or QCAS",
    },
    Refused {
        names: "rename renamenx copy move swapdb",
        why: "no operation spans several keys: write the new key, then delete the old one",
    },
    Refused {
        names: "eval eval_ro evalsha evalsha_ro fcall fcall_ro function script",
        why: "the cluster runs no programs: change one key with SET … IFEQ or QCAS",
    },
    Refused {
        names: "subscribe unsubscribe psubscribe punsubscribe ssubscribe sunsubscribe publish spublish pubsub monitor",
        why: "no messages are kept: watch keys over gRPC or HTTP",
    },
    Refused {
        names: "setbit getbit bitcount bitpos bitop bitfield bitfield_ro lcs pfadd pfcount pfmerge",
        why: "values are strings of bytes: read the value, and write it with SET … IFEQ or QCAS",
    },
    Refused {
        names: "lpush rpush lpushx rpushx lpop rpop llen lrange lindex lset lrem ltrim linsert lpos lmove rpoplpush lmpop \
                blpop brpop blmove brpoplpush blmpop hset hsetnx hget hmset hmget hgetall hdel hexists hlen hkeys hvals \
                hincrby hincrbyfloat hstrlen hscan hrandfield sadd srem smembers sismember smismember scard spop \
                srandmember sinter sinterstore sintercard sunion sunionstore sdiff sdiffstore smove sscan zadd zrem zscore \
                zmscore zincrby zcard zcount zlexcount zrange zrangebyscore zrangebylex zrevrange zrevrangebyscore \
                zrevrangebylex zrank zrevrank zremrangebyrank zremrangebyscore zremrangebylex zpopmin zpopmax bzpopmin \
                bzpopmax zmpop bzmpop zrangestore zinter zinterstore zintercard zunion zunionstore zdiff zdiffstore \
                zrandmember zscan geoadd geodist geohash geopos geosearch geosearchstore georadius georadiusbymember \
                xadd xread xreadgroup xrange xrevrange xlen xdel xtrim xack xclaim xautoclaim xpending xgroup xinfo xsetid",
        why: "strings are the only type: keep one key for each element",
    },
    Refused {
        names: "flushall flushdb",
        why: "one command must not delete everybody's keys: delete them with SCAN and UNLINK, or drop the table that redis_table names",
    },
    Refused {
        names: "cluster readonly readwrite asking replicaof slaveof replconf psync sync role wait waitaof failover",
        why: "every node takes every command, and every write is acknowledged by a majority: connect to any node, and \
              replicate with replica_count",
    },
    Refused {
        names: "acl save bgsave bgrewriteaof lastsave shutdown debug slowlog latency memory object module restore dump \
                migrate",
        why: "operators use `quorate`, node.yml and /metrics: see docs/operations.md",
    },
    Refused { names: "touch randomkey sort sort_ro lolwut", why: "not in this version: GET, EXISTS and SCAN are near" },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted_and_found_in_any_case() {
        assert!(COMMANDS.is_sorted_by(|one, next| one.name < next.name));
        for spec in &COMMANDS {
            assert_eq!(find(spec.name.to_uppercase().as_bytes()).unwrap().name, spec.name);
            assert!(refusal(spec.name.as_bytes()).is_none(), "{}", spec.name);
            assert!(spec.summary.ends_with('.'), "{}", spec.name);
        }
        assert!(find(b"steal").is_none() && find(&[b'x'; 99]).is_none());
        assert!(refusal(b"MULTI").is_some() && refusal(b"steal").is_none());
    }

    #[test]
    fn pairs_come_whole() {
        let mset = find(b"mset").unwrap();
        assert_eq!([1, 2, 3, 4, 5].map(|count| mset.takes(count)), [false, false, true, false, true]);
        let get = find(b"get").unwrap();
        assert_eq!([1, 2, 3].map(|count| get.takes(count)), [false, true, false]);
    }
}
