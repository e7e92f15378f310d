use std::collections::BTreeMap;

use nodekiln_words::{Class, Failure, Result, ResultExt};
use serde::Deserialize;
use url::Url;

use super::client::allowed;

/// What a registry asks for in `WWW-Authenticate: Bearer …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    parameters: BTreeMap<String, String>,
}

impl Challenge {
    /// Parses `Bearer realm="…",service="…",scope="…"` (RFC 6750 section 3, RFC 9110 section 11.2).
    pub(super) fn parse(header: &str) -> Option<Self> {
        let (scheme, mut rest) = header.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let mut parameters = BTreeMap::new();
        loop {
            let (name, after) = rest.trim_start().split_once('=')?;
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_at(after.find(',').unwrap_or(after.len())),
            };
            parameters.insert(name.trim().to_ascii_lowercase(), value.to_owned());
            match after.trim_start().strip_prefix(',') {
                Some(more) => rest = more,
                None => return Some(Self { parameters }),
            }
        }
    }

    /// The address that gives a token for it.
    pub(super) fn url(&self) -> Result<Url> {
        let realm = self.parameters.get("realm").map_or("", String::as_str);
        let mut url = Url::parse(realm)
            .or_fail(Class::Io, || format!("the registry names no token server: `{realm}`"))?;
        allowed(&url)?;
        for key in ["service", "scope"] {
            if let Some(value) = self.parameters.get(key) {
                url.query_pairs_mut().append_pair(key, value);
            }
        }
        Ok(url)
    }
}

/// The token in a token server's answer.
pub(super) fn token_in(answer: &[u8]) -> Result<String> {
    #[derive(Deserialize)]
    struct Answer {
        token: Option<String>,
        access_token: Option<String>,
    }
    let answer: Answer = serde_json::from_slice(answer)
        .or_io(|| "the token server's answer is no JSON".to_owned())?;
    let token = answer.token.or(answer.access_token);
    token.ok_or_else(|| Failure::io("the token server's answer has no token"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_becomes_the_token_servers_address() {
        let header = r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull""#;
        let url = Challenge::parse(header).unwrap().url().unwrap();
        assert_eq!(
            url.as_str(),
            "https://auth.example/token?service=registry.example&scope=repository%3Aa%2Fb%3Apull"
        );
    }

    #[test]
    fn a_token_server_without_encryption_is_refused() {
        let challenge = Challenge::parse(r#"bearer realm="http://auth.example/token""#).unwrap();
        assert!(challenge.url().is_err());
    }

    #[test]
    fn other_schemes_and_broken_headers_are_no_challenge() {
        for header in ["Basic realm=\"x\"", "Bearer", "Bearer realm", "Bearer realm=\"x", ""] {
            assert_eq!(Challenge::parse(header), None, "{header}");
        }
    }
}
