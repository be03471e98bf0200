//! How a bucket is reached: the variables of the environment that other tools for S3 take, too.

use std::fs;
use std::time::Duration;

use hyper::Uri;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::{Certificate, ClientOptions, RetryConfig};

const KEY_ID: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
const ALLOW_HTTP: &str = "AWS_ALLOW_HTTP";
const CA_BUNDLE: &str = "AWS_CA_BUNDLE";
/// The second counts for all services.
const ENDPOINTS: [&str; 2] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"];
const REGIONS: [&str; 2] = ["AWS_REGION", "AWS_DEFAULT_REGION"];
/// Variables that the library takes as they are.
const OTHERS: [&str; 11] = [
    KEY_ID,
    SECRET,
    "AWS_SESSION_TOKEN",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_SERVER_SIDE_ENCRYPTION",
    "AWS_SSE_KMS_KEY_ID",
];
/// Any of them says where credentials come from, if there is no key.
const ROLES: [&str; 3] =
    ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"];

/// How long one request may take, its body included. A part has 8 MiB; a download goes on where it ended.
const REQUEST_TIME_MAX: Duration = Duration::from_mins(2);
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a request is sent again while the store does not answer, or asks for it.
const RETRY_FOR: Duration = Duration::from_mins(1);

/// How a bucket is reached, for requests that are sent again with patience. An error says which variable to change; no secret
/// is in it.
pub(super) fn builder(bucket: &str, variable: impl Fn(&str) -> Option<String>) -> Result<AmazonS3Builder, String> {
    let given = |name: &str| variable(name).filter(|value| !value.is_empty());
    let first_of = |names: [&'static str; 2]| names.into_iter().find_map(|name| Some((name, given(name)?)));
    match (given(KEY_ID), given(SECRET)) {
        (Some(_), Some(_)) => {}
        (Some(_), None) => return Err(format!("{KEY_ID} is set without {SECRET}: set both")),
        (None, Some(_)) => return Err(format!("{SECRET} is set without {KEY_ID}: set both")),
        (None, None) if ROLES.into_iter().any(|name| given(name).is_some()) => {}
        (None, None) => {
            return Err(format!(
                "there are no credentials: set {KEY_ID} and {SECRET}. Files such as ~/.aws/credentials are not read"
            ));
        }
    }
    let mut options =
        ClientOptions::new().with_timeout(REQUEST_TIME_MAX).with_connect_timeout(CONNECT_TIME_MAX).with_http1_only();
    if let Some(path) = given(CA_BUNDLE) {
        let pem = fs::read(&path).map_err(|error| format!("{CA_BUNDLE}: {path} cannot be read: {error}"))?;
        let certificates = Certificate::from_pem_bundle(&pem)
            .ok()
            .filter(|certificates| !certificates.is_empty())
            .ok_or_else(|| format!("{CA_BUNDLE}: {path} has no certificates in PEM"))?;
        options = certificates.into_iter().fold(options, ClientOptions::with_root_certificate);
    }
    let endpoint = first_of(ENDPOINTS);
    if let Some((name, url)) = &endpoint {
        options = options.with_allow_http(is_plain_http(name, url, given(ALLOW_HTTP).as_deref() == Some("true"))?);
    }
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        // A name with a dot fits no certificate of a host.
        .with_virtual_hosted_style_request(endpoint.is_none() && !bucket.contains('.'))
        .with_retry(RetryConfig { retry_timeout: RETRY_FOR, max_retries: 20, ..RetryConfig::default() })
        .with_client_options(options);
    if let Some((_, url)) = endpoint {
        builder = builder.with_endpoint(url);
    }
    if let Some((_, region)) = first_of(REGIONS) {
        builder = builder.with_region(region);
    }
    for name in OTHERS {
        if let Some(value) = given(name) {
            let key: AmazonS3ConfigKey = name.to_ascii_lowercase().parse().expect("the library knows the name");
            builder = builder.with_config(key, value);
        }
    }
    Ok(builder)
}

/// Whether an endpoint is spoken to without TLS. Keys and values would go over the network in the clear, so that a host which
/// is not this one needs a word.
fn is_plain_http(name: &str, url: &str, is_allowed: bool) -> Result<bool, String> {
    let expected = "such as https://s3.example.com or http://127.0.0.1:9000";
    // A password is not repeated.
    if url.contains('@') {
        return Err(format!("{name} has credentials in it: give them as {KEY_ID} and {SECRET}"));
    }
    let parsed: Option<Uri> = url.parse().ok();
    let parsed = parsed.filter(|parsed| parsed.host().is_some() && parsed.query().is_none());
    let parsed = parsed.ok_or_else(|| format!("{name} is no address, {expected}"))?;
    match parsed.scheme_str() {
        Some("https") => Ok(false),
        Some("http") if is_allowed || parsed.host().is_some_and(is_loopback) => Ok(true),
        Some("http") => Err(format!(
            "{name} is http, which sends keys and values in the clear: give https, or set {ALLOW_HTTP}=true where the network is trusted"
        )),
        _ => Err(format!("{name} is no address, {expected}")),
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(variables: &[(&str, &str)]) -> String {
        let given =
            |name: &str| variables.iter().find(|(found, _)| *found == name).map(|(_, value)| (*value).to_owned());
        builder("b", given).err().unwrap_or_default()
    }

    const KEYS: [(&str, &str); 2] = [(KEY_ID, "id"), (SECRET, "hush-hush")];

    #[test]
    fn missing_credentials_are_named() {
        for (variables, part) in [
            (&[][..], "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
            (&[(KEY_ID, "id")], "without AWS_SECRET_ACCESS_KEY"),
            (&[(SECRET, "hush-hush")], "without AWS_ACCESS_KEY_ID"),
            (&[(KEY_ID, "id"), (SECRET, "")], "without AWS_SECRET_ACCESS_KEY"),
            (&[KEYS[0], KEYS[1], (CA_BUNDLE, "/no/such/file")], "AWS_CA_BUNDLE: /no/such/file cannot be read"),
            (&[KEYS[0], KEYS[1], (CA_BUNDLE, "/dev/null")], "no certificates in PEM"),
        ] {
            let problem = problem(variables);
            assert!(problem.contains(part) && !problem.contains("hush"), "{variables:?}: {problem}");
        }
        assert_eq!(problem(&KEYS), "");
        assert_eq!(problem(&[("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"), ("AWS_ROLE_ARN", "arn")]), "");
    }

    #[test]
    fn plain_http_is_for_this_machine_or_allowed() {
        for (url, allowed, part) in [
            ("https://s3.example.com", "", ""),
            ("http://127.0.0.1:9000", "", ""),
            ("http://[::1]:9000", "", ""),
            ("http://localhost:9000", "", ""),
            ("http://minio:9000", "true", ""),
            ("http://minio:9000", "", "AWS_ALLOW_HTTP=true"),
            ("http://minio:9000", "no", "AWS_ALLOW_HTTP=true"),
            ("http://127.0.0.1.example.com", "", "AWS_ALLOW_HTTP=true"),
            ("ftp://minio", "true", "is no address"),
            ("minio:9000", "true", "is no address"),
            ("http://user:hush@minio", "true", "credentials in it"),
            ("", "", ""),
        ] {
            let problem = problem(&[KEYS[0], KEYS[1], (ENDPOINTS[1], url), (ALLOW_HTTP, allowed)]);
            assert!(problem.contains(part) && problem.is_empty() == part.is_empty(), "{url} {allowed}: {problem}");
            assert!(!problem.contains("hush"), "{problem}");
        }
        // The address for S3 alone comes first.
        let both = [KEYS[0], KEYS[1], (ENDPOINTS[1], "ftp://x"), (ENDPOINTS[0], "https://s3.example.com")];
        assert_eq!(problem(&both), "");
    }
}
