//! Frames of HTTP/2, written by hand.

/// What a client says first: the preface, settings that change nothing, and that it has taken those of the node, whose windows are
/// larger than usual.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\0\x04\x01\0\0\0\0";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_HEADERS: u8 = 4;

/// The largest frame that is accepted without a word about it.
pub const FRAME_BYTES_MAX: usize = 16 << 10;

/// Appends a frame.
pub fn frame(to: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("frames are short");
    to.extend_from_slice(&length.to_be_bytes()[1..]);
    to.extend_from_slice(&[kind, flags]);
    to.extend_from_slice(&stream.to_be_bytes());
    to.extend_from_slice(payload);
}

/// Appends frames of data without an end of the stream.
pub fn data(to: &mut Vec<u8>, stream: u32, bytes: &[u8]) {
    for part in bytes.chunks(FRAME_BYTES_MAX) {
        frame(to, DATA, 0, stream, part);
    }
}

/// A block of headers: a POST of gRPC or of anything else, and further fields.
pub fn head(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    // POST and http stand in the table that all know; the others are given by the name's place there, or as they are.
    let mut block = vec![0x83, 0x86, 0x04];
    string(&mut block, path);
    block.push(0x01);
    string(&mut block, "localhost");
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")].iter().chain(more) {
        field(&mut block, name, value);
    }
    block
}

/// Appends a field that is not remembered.
pub fn field(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    string(block, name);
    string(block, value);
}

fn string(block: &mut Vec<u8>, text: &str) {
    let mut left = text.len();
    if left < 127 {
        block.push(u8::try_from(left).expect("it is short"));
    } else {
        block.push(127);
        left -= 127;
        while left >= 128 {
            block.push(u8::try_from(left % 128).expect("it is a part") | 128);
            left /= 128;
        }
        block.push(u8::try_from(left).expect("it is a part"));
    }
    block.extend_from_slice(text.as_bytes());
}

/// The kinds of the whole frames in `bytes`, and what is left over.
pub fn kinds(mut bytes: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut kinds = Vec::new();
    while let [a, b, c, kind, ..] = *bytes {
        let whole = 9 + u32::from_be_bytes([0, a, b, c]) as usize;
        let Some(rest) = bytes.get(whole..) else { break };
        kinds.push(kind);
        bytes = rest;
    }
    (kinds, bytes)
}

#[test]
fn frames_are_written_and_read() {
    let mut bytes = Vec::new();
    frame(&mut bytes, PING, 0, 0, b"12345678");
    data(&mut bytes, 3, &vec![7; FRAME_BYTES_MAX + 1]);
    assert_eq!(&bytes[..9], b"\0\0\x08\x06\0\0\0\0\0");
    bytes.extend_from_slice(b"\0\0\x01\x07");
    let (found, rest) = kinds(&bytes);
    assert_eq!((found, rest), (vec![PING, DATA, DATA], &b"\0\0\x01\x07"[..]));
    let mut block = Vec::new();
    field(&mut block, "a", &"x".repeat(400));
    // 400 is 127 and 273, which is 17 and two times 128.
    assert_eq!(&block[..6], &[0, 1, b'a', 127, 145, 2]);
}
