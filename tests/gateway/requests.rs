//! Requests that no method accepts, and connections of impatient or silent clients.

use super::*;

#[tokio::test]
async fn call_to_nothing_is_answered_with_what_there_is() {
    let served = start_one().await;
    let mut client = tonic::client::Grpc::new(served.channel().await);
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<api::GetRequest, api::GetResponse>::default();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static("/api.Nobody/Get");
    let status = client.unary(Request::new(get("a")), path, codec).await.unwrap_err();
    assert_eq!((status.code(), reason(&status)), (Code::Unimplemented, Some(FailureReason::NotApplied)));
    assert!(status.message().contains("/api.Nobody/Get"), "{status}");
}

/// Sends bytes as a message of `path`, decodable or not.
async fn call(channel: Channel, path: &'static str, message: &[u8]) -> Status {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let path = tonic::codegen::http::uri::PathAndQuery::from_static(path);
    client.unary(Request::new(message.to_vec()), path, Raw).await.unwrap_err()
}

/// Messages that are not looked into.
struct Raw;

impl tonic::codec::Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl tonic::codec::Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(to, &item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Raw {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, _: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<()>, Status> {
        Ok(Some(()))
    }
}

#[tokio::test]
async fn request_that_cannot_be_read_is_the_clients_fault_and_certainly_not_applied() {
    let served = start_one().await;
    for (path, message, expected) in [
        ("/api.Cluster/Set", &[0xff][..], FailureReason::NotApplied),
        ("/api.Cluster/Delete", &[10, 2, 0xff, 0xfe], FailureReason::NotApplied),
        ("/api.Cluster/Get", &[0xff], FailureReason::InvalidArgument),
        ("/api.Cluster/Get", &[10, 2, 0xff, 0xfe], FailureReason::InvalidArgument),
    ] {
        let status = call(served.channel().await, path, message).await;
        assert_eq!((status.code(), reason(&status)), (Code::InvalidArgument, Some(expected)), "{path}: {status}");
        assert!(status.message().contains("nothing was done"), "{status}");
    }
    let (_, text) = served.get("/metrics").await;
    assert!(text.contains("{method=\"Cluster/Set\",code=\"INVALID_ARGUMENT\",door=\"grpc\"} 1"), "{text}");
    assert!(!text.contains("INTERNAL"), "{text}");
}

#[tokio::test]
async fn request_may_be_compressed_with_gzip() {
    let served = start_one().await;
    let mut cluster = served.cluster().await.send_compressed(CompressionEncoding::Gzip);
    cluster.set(set("a", &"v".repeat(100_000))).await.unwrap();
    let got = cluster.get(get("a")).await.unwrap().into_inner();
    assert_eq!(got.entry, Some(text("a", &"v".repeat(100_000))));
    // A few hundred bytes that would become more than a message may have.
    let bomb = entry("k", Some(Arm::Binary(vec![0; MESSAGE_BYTES_MAX + 1].into())));
    let status = cluster.set(api::SetRequest { entry: Some(bomb), ..Default::default() }).await.unwrap_err();
    assert_eq!(reason(&status), Some(FailureReason::NotApplied), "{status}");
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status}");
}

#[tokio::test]
async fn metadata_is_taken_up_to_a_limit_and_refused_in_words_beyond() {
    let served = start_one().await;
    let mut cluster = served.cluster().await;
    let with_metadata = |bytes: usize| {
        let mut request = Request::new(set("a", "v"));
        request.metadata_mut().insert("x-trace", "m".repeat(bytes).parse().unwrap());
        request
    };
    for bytes in [1 << 10, 8 << 10, 15 << 10, 16 << 10] {
        cluster.set(with_metadata(bytes)).await.unwrap();
    }
    for bytes in [33 << 10, 100 << 10] {
        let status = cluster.set(with_metadata(bytes)).await.unwrap_err();
        let expected = (Code::InvalidArgument, Some(FailureReason::NotApplied));
        assert_eq!((status.code(), reason(&status)), expected, "{bytes}: {status}");
        assert!(status.message().contains("32768 bytes"), "{status}");
    }
}

/// The client's window for a connection, in bytes. The client's HTTP/2 library closes a connection itself after too many
/// small answers that were dropped unread; its budget for them is half of this window.
const CLIENT_WINDOW_BYTES: u32 = 128 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn impatient_calls_do_not_harm_patient_ones_on_their_connection() {
    let served = start_one().await;
    // As the Rust client does: otherwise the client's own library closes the connection after 1,024 late answers.
    let endpoint = Endpoint::from_shared(format!("http://{}", served.address)).unwrap();
    let endpoint = endpoint.http2_max_concurrent_reset_streams(8_192).http2_max_local_error_reset_streams(None);
    let endpoint = endpoint.initial_connection_window_size(CLIENT_WINDOW_BYTES);
    let cluster = ClusterClient::new(endpoint.connect().await.unwrap());
    let until = Instant::now() + Duration::from_secs(2);
    let mut patient = Vec::new();
    for writer in 0..4 {
        let mut cluster = cluster.clone();
        patient.push(tokio::spawn(async move {
            let mut written = 0;
            while Instant::now() < until {
                cluster.set(set(&format!("patient-{writer}"), "v")).await.unwrap();
                written += 1;
            }
            written
        }));
    }
    let mut given_up = 0;
    while Instant::now() < until {
        let mut calls = tokio::task::JoinSet::new();
        for n in 0..100_u64 {
            let mut cluster = cluster.clone();
            calls.spawn(async move {
                let call = cluster.get(get("impatient"));
                tokio::time::timeout(Duration::from_micros(n * 3), call).await.is_err()
            });
        }
        given_up += calls.join_all().await.into_iter().filter(|given_up| *given_up).count();
    }
    assert!(given_up > 1_000, "{given_up} calls were given up");
    for writer in patient {
        assert!(writer.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn streams_that_are_reset_at_once_close_no_connection() {
    let served = start_one().await;
    let mut stream = TcpStream::connect(&served.address).await.unwrap();
    let frame = |kind: u8, flags: u8, id: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat()
    };
    // HPACK without indexing: POST, http, :path, :authority, content-type, te.
    let field = |name: &[u8], value: &str| [name, &[u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
    let headers = [
        vec![0x83, 0x86],
        field(&[0x04], "/api.Cluster/Get"),
        field(&[0x01], "node"),
        field(&[0x0f, 0x10], "application/grpc"),
        field(&[&[0x00, 0x02][..], b"te"].concat(), "trailers"),
    ]
    .concat();
    let mut sent = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, &[])].concat();
    for n in 0..1_000 {
        sent.extend(frame(1, 4, 2 * n + 1, &headers));
        sent.extend(frame(3, 0, 2 * n + 1, &8_u32.to_be_bytes()));
    }
    sent.extend(frame(6, 0, 0, b"still on"));
    stream.write_all(&sent).await.unwrap();
    let answer = async {
        loop {
            let mut head = [0; 9];
            stream.read_exact(&mut head).await.expect("the connection stays open");
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            stream.read_exact(&mut payload).await.unwrap();
            assert_ne!(head[3], 7, "GOAWAY: {}", String::from_utf8_lossy(&payload));
            if (head[3], head[4]) == (6, 1) {
                return payload;
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(5), answer).await.unwrap(), b"still on");
}

#[tokio::test]
async fn connection_that_never_speaks_is_closed() {
    let served = start_one().await;
    let mut silent = TcpStream::connect(&served.address).await.unwrap();
    let mut half = TcpStream::connect(&served.address).await.unwrap();
    half.write_all(b"PRI * HT").await.unwrap();
    let mut silent_admin = TcpStream::connect(&served.admin_address).await.unwrap();
    let mut cluster = served.cluster().await;
    cluster.set(set("a", "v")).await.unwrap();
    for stream in [&mut silent, &mut half, &mut silent_admin] {
        let mut answer = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(8), stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "it is closed after a few seconds");
    }
    cluster.set(set("a", "w")).await.unwrap();
}
