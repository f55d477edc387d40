// SPDX-License-Identifier: Apache-2.0
//! A key of AWS KMS by its ARN, and the three ways to a key pair that signs for it.

use std::fmt;

use crate::keyservice::config::etcd::Endpoint;
use crate::keyservice::config::secret::SecretSource;

/// The longest ARN, in bytes (AWS KMS API Reference, `KeyId` of "Decrypt").
const ARN_LEN_MAX: usize = 2048;

/// The longest ARN of a key, in bytes. Theirs have about 80, and all of it stands in the file that a start reads.
const KEY_LEN_MAX: usize = 256;

/// Digits of the number of an account (AWS Account Management, "View AWS account identifiers").
const ACCOUNT_LEN: usize = 12;

/// What goes together.
pub(super) const LOGINS: &str = "credentials: aws takes \"file:\" or \"credential:\" with a key pair, the same with \
     a web identity token and then role and login-url, or \"machine\"";

/// `arn:PARTITION:kms:REGION:ACCOUNT:key/ID`. An alias is none: who may move it would choose the key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyArn {
    arn: String,
    region: String,
}

impl KeyArn {
    /// The region, which is a part of each signature.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// All of it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.arn
    }
}

impl fmt::Display for KeyArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.arn)
    }
}

impl TryFrom<String> for KeyArn {
    type Error = String;

    fn try_from(arn: String) -> Result<Self, String> {
        let wrong = || {
            format!(
                "key: expected \"arn:aws:kms:REGION:ACCOUNT:key/ID\", of a key and no alias, found {arn:?}"
            )
        };
        let [region, account, name] = parts(&arn, "kms").ok_or_else(wrong)?;
        let id = name.strip_prefix("key/").ok_or_else(wrong)?;
        if arn.len() > KEY_LEN_MAX || !is_word(region) || !is_account(account) || !is_word(id) {
            return Err(wrong());
        }
        let region = region.to_owned();
        Ok(Self { arn, region })
    }
}

/// Whose key pair signs the requests.
#[derive(Clone, Debug)]
pub enum Login {
    /// One that is in a file.
    Keys(SecretSource),
    /// One of some minutes that the STS gives for a token of another identity provider.
    WebIdentity {
        /// Where the token is.
        token: SecretSource,
        /// The ARN of the role.
        role: String,
        /// Where the STS is.
        url: Endpoint,
    },
    /// That of the role which is attached to this machine.
    Machine,
}

impl Login {
    pub(super) fn web_identity(
        token: SecretSource,
        role: String,
        url: Endpoint,
    ) -> Result<Self, String> {
        // A role may have a path before its name (IAM User Guide, "IAM ARNs").
        let is_role = |[region, account, name]: [&str; 3]| {
            let mut path = name.split('/');
            let is_role = path.next() == Some("role") && path.clone().count() > 0;
            region.is_empty() && is_account(account) && is_role && path.all(is_name)
        };
        if !parts(&role, "iam").is_some_and(is_role) {
            return Err(format!(
                "role: expected \"arn:aws:iam::ACCOUNT:role/NAME\", found {role:?}"
            ));
        }
        Ok(Self::WebIdentity { token, role, url })
    }
}

/// Region, account and resource of an ARN of `service`.
fn parts<'a>(arn: &'a str, service: &str) -> Option<[&'a str; 3]> {
    if arn.len() > ARN_LEN_MAX {
        return None;
    }
    let mut parts = arn.splitn(6, ':');
    let mut next = || parts.next();
    let (arn, partition, of) = (next()?, next()?, next()?);
    let is_arn = arn == "arn" && is_word(partition) && of == service;
    let parts = [next()?, next()?, next()?];
    is_arn.then_some(parts)
}

fn is_account(text: &str) -> bool {
    text.len() == ACCOUNT_LEN && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_word(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !text.is_empty() && text.bytes().all(is_plain)
}

/// A part of a role's name (IAM API Reference, `RoleName` of `CreateRole`).
fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+=,.@_-".contains(&byte);
    !text.is_empty() && text.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str =
        "arn:aws:kms:eu-central-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab";

    #[test]
    fn a_key_is_named_by_its_arn_and_never_by_an_alias() {
        let key = KeyArn::try_from(ARN.to_owned()).unwrap();
        assert_eq!((key.region(), key.as_str()), ("eu-central-1", ARN));
        let multi = "arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/mrk-1234abcd12ab34cd56ef123456789012";
        KeyArn::try_from(multi.to_owned()).unwrap();
        for wrong in [
            "",
            "1234abcd-12ab-34cd-56ef-1234567890ab",
            &ARN.replace(":key/", ":alias/"),
            &ARN.replace("kms", "s3"),
            &ARN.replace("eu-central-1", ""),
            &ARN.replace("123456789012", "12345"),
            &ARN.replace("1234abcd", "a/b"),
            &format!("{ARN}:x"),
            &format!("{ARN} "),
            &format!("{ARN}{}", "0".repeat(KEY_LEN_MAX)),
            "arn:aws:kms:eu-central-1:123456789012:key/",
            "arn:aws:kms:eu-central-1:123456789012",
        ] {
            let error = KeyArn::try_from(wrong.to_owned()).unwrap_err();
            assert!(error.contains("of a key and no alias"), "{error}");
        }
    }

    #[test]
    fn a_role_is_named_by_its_arn() {
        let source = || SecretSource::File("/t".into());
        let url = || Endpoint::try_from("http://127.0.0.1:1".to_owned()).unwrap();
        let login = |role: &str| Login::web_identity(source(), role.to_owned(), url());
        for good in [
            "arn:aws:iam::123456789012:role/nightlatch",
            "arn:aws:iam::123456789012:role/a/b_c@d",
        ] {
            login(good).unwrap();
        }
        for wrong in [
            "",
            "nightlatch",
            "arn:aws:iam::123456789012:user/nightlatch",
            "arn:aws:iam::123456789012:role",
            "arn:aws:iam::123456789012:role/",
            "arn:aws:iam:eu-central-1:123456789012:role/nightlatch",
            "arn:aws:iam::123456789012:role/a&b",
        ] {
            login(wrong).unwrap_err();
        }
    }
}
