//! etcd, so that one generator can measure both: as much of its API as a get and a set need.
//!
//! The messages are those of etcd's service `etcdserverpb.KV`, with the fields that are used here. A range is linearizable, as it
//! is by default.

use bytes::Bytes;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::resolve::NodeChannel;

#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeRequest {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(bytes = "bytes", tag = "5")]
    value: Bytes,
}

/// A connection to a member.
#[derive(Clone, Debug)]
pub(super) struct Etcd {
    grpc: Grpc<NodeChannel>,
}

impl Etcd {
    pub(super) fn new(channel: NodeChannel) -> Self {
        Self { grpc: crate::api::sized!(Grpc::new(channel)) }
    }

    /// The size of the key's value, if it has one.
    pub(super) async fn get(&mut self, key: String, deadline: Request<()>) -> Result<Option<usize>, Status> {
        let request = deadline.map(|()| RangeRequest { key: key.into() });
        let found: RangeResponse = self.call("/etcdserverpb.KV/Range", request).await?;
        Ok(found.kvs.first().map(|found| found.value.len()))
    }

    pub(super) async fn set(&mut self, key: String, value: Bytes, deadline: Request<()>) -> Result<(), Status> {
        let request = deadline.map(|()| PutRequest { key: key.into(), value });
        let PutResponse {} = self.call("/etcdserverpb.KV/Put", request).await?;
        Ok(())
    }

    async fn call<M, A>(&mut self, path: &'static str, request: Request<M>) -> Result<A, Status>
    where
        M: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        self.grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let answer = self.grpc.unary(request, PathAndQuery::from_static(path), ProstCodec::<M, A>::default()).await?;
        Ok(answer.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    #[test]
    fn messages_are_those_of_etcd() {
        let put = PutRequest { key: "k".into(), value: "vv".into() };
        assert_eq!(put.encode_to_vec(), b"\x0a\x01k\x12\x02vv");
        // A header, the key, its revision and its value, and the count: as a member answers.
        let answer = b"\x0a\x02\x18\x07\x12\x09\x0a\x01k\x10\x02\x2a\x02vv\x20\x01";
        let answer = RangeResponse::decode(&answer[..]).unwrap();
        assert_eq!(answer.kvs, [KeyValue { value: "vv".into() }]);
    }
}
