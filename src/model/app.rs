//! The name of a FreedomBox app.

use serde::{Deserialize, Deserializer, Serialize, de::Error};
use std::fmt;

/// A FreedomBox app id: 1 to 64 of `a-z A-Z 0-9 _ -`, not starting with `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct AppId(String);

/// The text is not an app id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an app name: letters, digits, '_' and '-' only")]
pub struct BadAppId(String);

impl AppId {
    /// The name under which the folders of people are restored, beside the apps. No app of FreedomBox is called so.
    pub fn folders() -> AppId {
        AppId("folders".to_owned())
    }

    /// The name under which database servers' own files are carried along, beside the apps. No app of FreedomBox is
    /// called so.
    pub fn databases() -> AppId {
        AppId("databases".to_owned())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for AppId {
    type Err = BadAppId;
    fn from_str(text: &str) -> Result<Self, BadAppId> {
        let fits = (1..=64).contains(&text.len())
            && !text.starts_with('-')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if fits { Ok(Self(text.to_owned())) } else { Err(BadAppId(super::bytes::escape(text.as_bytes()))) }
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for AppId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_id_cannot_be_a_path_or_an_option() {
        for bad in ["", "-x", "a/b", "..", "a b", "a\n", &"x".repeat(65)] {
            assert!(bad.parse::<AppId>().is_err(), "{bad}");
        }
        assert_eq!("email_server".parse::<AppId>().unwrap().as_str(), "email_server");
    }
}
