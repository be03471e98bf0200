//! Runs commands about keys, but plain reads and writes: counts them, gives each its deadline, and calls the one that was
//! asked for.

use std::pin::pin;
use std::time::Instant;

use tonic::Code;

use crate::service::deadline::Deadline;
use crate::service::request_metrics::{Door, Observation, Outcome};
use crate::traces;
use crate::wire::method::Method;

use super::Gateway;
use super::command::{Answer, Command, Refusal};
use super::reply::Reply;
use super::table::{Access, Id};

impl Gateway {
    /// The answer to a command, whatever comes of it.
    pub(super) async fn execute(&self, command: Command, began: Instant) -> Reply {
        let deadline = Deadline::new(None, began);
        if matches!(command.spec.access, Access::Neither | Access::Open) {
            return self.run(&command, deadline).await.unwrap_or_else(Refusal::into_reply);
        }
        let observation = self.service.observe(Door::Redis, counted_as(command.spec.id), began);
        let running = pin!(self.run(&command, deadline));
        answered(traces::within(observation.trace(), running).await, observation)
    }

    async fn run(&self, command: &Command, deadline: Deadline) -> Answer {
        match command.spec.id {
            Id::Set => self.set(command, deadline).await,
            Id::Mget => self.mget(command, deadline).await,
            Id::Mset => self.mset(command, deadline).await,
            Id::Strlen => self.strlen(command, deadline).await,
            Id::Getrange => self.getrange(command, deadline).await,
            Id::Setrange => self.setrange(command, deadline).await,
            Id::Append => self.append(command, deadline).await,
            Id::Getset => self.getset(command, deadline).await,
            Id::Getdel => self.getdel(command, deadline).await,
            Id::Getex => self.getex(command, deadline).await,
            Id::Setnx => self.setnx(command, deadline).await,
            Id::Setex | Id::Psetex => self.setex(command, deadline).await,
            Id::Qgetv => self.qgetv(command, deadline).await,
            Id::Qcas => self.qcas(command, deadline).await,
            Id::Incr | Id::Decr | Id::Incrby | Id::Decrby => self.add(command, deadline).await,
            Id::Incrbyfloat => self.add_fraction(command, deadline).await,
            Id::Expire | Id::Pexpire | Id::Expireat | Id::Pexpireat => self.expire(command, deadline).await,
            Id::Ttl | Id::Pttl | Id::Expiretime | Id::Pexpiretime => self.ttl(command, deadline).await,
            Id::Persist => self.persist(command, deadline).await,
            Id::Del => self.del(command, deadline).await,
            Id::Delex | Id::Delifeq => self.delex(command, deadline).await,
            Id::Exists => self.exists(command, deadline).await,
            Id::Type => self.kind(command, deadline).await,
            Id::Scan => self.scan(command, deadline).await,
            Id::Keys => self.keys(command, deadline).await,
            Id::Dbsize => self.dbsize(deadline).await,
            Id::Info => self.info(&command.arguments[1..], deadline).await,
            Id::Auth
            | Id::Client
            | Id::Command
            | Id::Config
            | Id::Echo
            | Id::Hello
            | Id::Ping
            | Id::Quit
            | Id::Reset
            | Id::Select
            | Id::Time => unreachable!("the session answers {}", command.spec.name),
            Id::Get => unreachable!("GET is a plain read, which the service begins together with others"),
        }
    }
}

/// The answer of a command, which ends its observation.
pub(super) fn answered(answer: Answer, mut observation: Observation) -> Reply {
    // An answer of several parts can say in one of them that something failed.
    let code_of = |reply: &Reply| if reply.as_error().is_some() { Code::Unknown } else { Code::Ok };
    let (code, reply) = match answer {
        Ok(reply) => (code_of(&reply), reply),
        Err(refusal) => (refusal.code(), refusal.into_reply()),
    };
    observation.end(Outcome::new(code, reply.as_error().unwrap_or_default()));
    reply
}

/// The method that a command counts as in metrics.
pub(super) fn counted_as(id: Id) -> Option<&'static Method> {
    Method::find(match id {
        Id::Mget | Id::Exists => "/api.Cluster/BatchGet",
        Id::Mset => "/api.Cluster/BatchWrite",
        Id::Del | Id::Delex | Id::Delifeq | Id::Getdel => "/api.Cluster/Delete",
        Id::Incr | Id::Decr | Id::Incrby | Id::Decrby | Id::Incrbyfloat => "/api.Cluster/Add",
        Id::Scan | Id::Keys | Id::Dbsize => "/api.Cluster/List",
        Id::Get
        | Id::Strlen
        | Id::Getrange
        | Id::Type
        | Id::Ttl
        | Id::Pttl
        | Id::Expiretime
        | Id::Pexpiretime
        | Id::Qgetv => "/api.Cluster/Get",
        _ => "/api.Cluster/Set",
    })
}
