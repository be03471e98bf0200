//! An archive that `tar` reads: the old POSIX form, which needs no library for a few small files.
//!
//! Source: IEEE Std 1003.1, pax, "ustar Interchange Format".

const BLOCK: usize = 512;
/// The longest name that a header holds in one field.
const NAME_BYTES_MAX: usize = 100;

/// An archive of `files` below `folder`. A name that is too long loses its beginning.
pub(super) fn archive(folder: &str, files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, content) in files {
        let name = format!("{folder}/{name}");
        let mut from = name.len().saturating_sub(NAME_BYTES_MAX);
        while !name.is_char_boundary(from) {
            from += 1;
        }
        bytes.extend_from_slice(&header(&name[from..], content.len()));
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    }
    // The end is two empty blocks.
    bytes.resize(bytes.len() + 2 * BLOCK, 0);
    bytes
}

fn header(name: &str, size: usize) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000600\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{size:011o}\0"));
    put(136, "00000000000\0");
    // The sum counts its own field as spaces.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tar_reads_the_archive() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("b.tar");
        let long = format!("logs/{}.log", "é".repeat(80));
        let files =
            [("a/b.txt".to_owned(), b"hello\n".to_vec()), ("empty".to_owned(), Vec::new()), (long, vec![7; 1_000])];
        std::fs::write(&path, archive("top", &files)).unwrap();
        let path = path.to_str().unwrap();
        let run = |arguments: &[&str]| {
            let output = std::process::Command::new("tar").args(arguments).output().expect("tar is installed");
            assert!(output.status.success(), "{output:?}");
            output.stdout
        };
        let names = String::from_utf8(run(&["--quoting-style=literal", "-tf", path])).unwrap();
        assert!(names.starts_with("top/a/b.txt\ntop/empty\n") && names.lines().count() == 3, "{names}");
        assert_eq!(run(&["-xOf", path, "top/a/b.txt"]), b"hello\n");
    }
}
