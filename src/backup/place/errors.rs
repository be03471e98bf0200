//! What an object store's errors mean, and what mends them.
//!
//! Invariant: no answer of a store is repeated as a whole. It may quote what was signed.

use std::path::PathBuf;

use object_store::Error;

use super::super::error::BackupError;

/// The longest message of a store that is repeated.
const MESSAGE_CHARS_MAX: usize = 200;
/// Answers after which the same request may succeed later.
const PASSING: [&str; 8] = [
    "SlowDown",
    "InternalError",
    "ServiceUnavailable",
    "RequestTimeout",
    "Throttling",
    "RequestLimitExceeded",
    "OperationAborted",
    "ConditionalRequestConflict",
];

/// Whether a bucket has no object of a name, and is there itself.
pub(super) fn is_missing(error: &Error) -> bool {
    matches!(error, Error::NotFound { .. }) && code(&error.to_string()) != Some("NoSuchBucket")
}

/// An error in words. `path` is what was asked for, of `bucket`.
pub(super) fn in_words(path: PathBuf, bucket: &str, error: &Error) -> BackupError {
    let text = error.to_string();
    let code = code(&text);
    let (problem, may_pass) = match code {
        Some("NoSuchBucket") => (
            format!("there is no bucket {bucket}: create it, or correct its name, AWS_REGION or AWS_ENDPOINT_URL"),
            false,
        ),
        Some("InvalidAccessKeyId") => ("the store does not know the key of AWS_ACCESS_KEY_ID".to_owned(), false),
        Some("SignatureDoesNotMatch") => (
            "AWS_SECRET_ACCESS_KEY is not the secret of AWS_ACCESS_KEY_ID, or a proxy changes requests".to_owned(),
            false,
        ),
        Some("ExpiredToken" | "TokenRefreshRequired") => {
            ("AWS_SESSION_TOKEN has expired: get new credentials".to_owned(), false)
        }
        Some("InvalidToken") => ("AWS_SESSION_TOKEN does not belong to AWS_ACCESS_KEY_ID".to_owned(), false),
        Some("RequestTimeTooSkewed") => {
            ("the clock of this machine is not that of the store: set it".to_owned(), false)
        }
        Some("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException") => {
            (of_region(bucket), false)
        }
        _ if matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. }) || is_denied(code) => {
            let needed = "s3:ListBucket and s3:GetObject, and s3:PutObject to create a backup,";
            (format!("access denied: the credentials need {needed} on the bucket {bucket} and its objects"), false)
        }
        // Stores answer so to a region that is not the bucket's.
        _ if text.contains("without LOCATION") || text.contains("status code: 301") => (of_region(bucket), false),
        _ if matches!(error, Error::NotFound { .. }) => ("there is no such object".to_owned(), false),
        Some(code) => {
            let message = between(&text, "<Message>", "</Message>").unwrap_or_default();
            let message: String = message.chars().filter(|char| !char.is_control()).take(MESSAGE_CHARS_MAX).collect();
            (format!("the store answers {code}: {message}"), PASSING.contains(&code))
        }
        None => {
            let reason = innermost(error);
            (format!("the store does not answer as one of S3 does: {reason}. AWS_ENDPOINT_URL says where it is"), true)
        }
    };
    BackupError::Bucket { path, problem, may_pass }
}

fn of_region(bucket: &str) -> String {
    format!("the bucket {bucket} is in another region: set AWS_REGION to that of the bucket")
}

fn is_denied(code: Option<&str>) -> bool {
    matches!(code, Some("AccessDenied" | "AllAccessDisabled" | "AccountProblem"))
}

/// The code of an answer in XML.
fn code(text: &str) -> Option<&str> {
    between(text, "<Code>", "</Code>").filter(|code| code.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

fn between<'a>(text: &'a str, begin: &str, end: &str) -> Option<&'a str> {
    Some(text.split_once(begin)?.1.split_once(end)?.0)
}

/// The reason beneath all others, such as that of the system.
fn innermost(error: &Error) -> String {
    let mut reason: &dyn std::error::Error = error;
    while let Some(source) = reason.source() {
        reason = source;
    }
    reason.to_string().chars().filter(|char| !char.is_control()).take(MESSAGE_CHARS_MAX).collect()
}

/// An error that came through an interface of files.
pub(super) fn of_io(path: PathBuf, bucket: &str, error: std::io::Error) -> BackupError {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(inner) => in_words(path, bucket, inner),
        None => BackupError::Io { action: "write it", path, error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_names_the_bucket_and_the_cure_and_no_secret() {
        let answered = |code: &str| Error::Generic {
            store: "S3",
            source: format!(
                "Server returned non-2xx status code: 403: <Error><Code>{code}</Code><Message>It failed\n.</Message>\
                 <StringToSign>hush</StringToSign></Error>"
            )
            .into(),
        };
        for (code, part, may_pass) in [
            ("NoSuchBucket", "there is no bucket b: create it", false),
            ("AccessDenied", "access denied: the credentials need s3:ListBucket", false),
            ("SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY is not the secret", false),
            ("PermanentRedirect", "set AWS_REGION", false),
            ("SlowDown", "the store answers SlowDown: It failed.", true),
            ("RequestTimeout", "the store answers RequestTimeout: It failed.", true),
            ("InvalidArgument", "the store answers InvalidArgument: It failed.", false),
        ] {
            let error = in_words("s3://b/x".into(), "b", &answered(code));
            let text = error.to_string();
            assert!(text.starts_with("s3://b/x: ") && text.contains(part) && !text.contains("hush"), "{code}: {text}");
            let BackupError::Bucket { may_pass: found, .. } = error else { panic!("{error:?}") };
            assert_eq!(found, may_pass, "{code}");
        }
    }
}
