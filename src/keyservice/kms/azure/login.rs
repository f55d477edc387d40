// SPDX-License-Identifier: Apache-2.0
//! Who gives the token: the metadata service of this machine ("Use managed identities for Azure resources on a VM to acquire
//! an access token"), or Microsoft Entra for a token of another issuer ("OAuth 2.0 client credentials flow", third case).
//!
//! It is fetched anew for each call, for Key Vault or a managed HSM alone.

use serde::Deserialize;
use ureq::http::header::{HeaderName, HeaderValue};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::keyservice::config::FilePath;
use crate::keyservice::config::kms::azure::Login as LoginConfig;
use crate::keyservice::config::secret::SecretSource;
use crate::keyservice::kms::request::{Answer, Deadline, Request, Server, form, printable};
use crate::keyservice::kms::table::FOREIGN;
use crate::keyservice::kms::{Answered, Class, Failure, shown};

/// The version of the metadata service's interface (Azure Instance Metadata Service), and its header.
const METADATA_API: &str = "2018-02-01";
const METADATA_HEADER: HeaderName = HeaderName::from_static("metadata");

/// How a token of another issuer is called there (RFC 7523, section 2.2).
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Whom a token is for, by the name of the vault behind its first dot: each cloud's vaults and managed HSMs (Key Vault,
/// "Authentication, requests and responses"; "Azure Key Vault security worlds").
const AUDIENCES: [&str; 6] = [
    "vault.azure.net",
    "managedhsm.azure.net",
    "vault.azure.cn",
    "managedhsm.azure.cn",
    "vault.usgovcloudapi.net",
    "managedhsm.usgovcloudapi.net",
];

/// What is answered instead (RFC 6749, section 5.2).
#[derive(Deserialize)]
struct Refused {
    error: String,
}

/// Who gives the token, and for whom.
#[derive(Debug)]
pub(super) struct Login {
    audience: &'static str,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Federated {
        token: SecretSource,
        tenant: Uuid,
        client: Uuid,
        directory: Server,
    },
    Machine {
        client: Option<Uuid>,
        metadata: Server,
    },
}

impl Login {
    /// For the vault at this host.
    pub(super) fn new(login: &LoginConfig, host: &str, ca: Option<&FilePath>) -> Self {
        let way = match login {
            LoginConfig::Federated {
                token,
                tenant,
                client,
                url,
            } => Way::Federated {
                token: token.clone(),
                tenant: *tenant,
                client: *client,
                directory: Server::new(url, ca),
            },
            LoginConfig::Machine(client) => Way::Machine {
                client: *client,
                metadata: Server::metadata(),
            },
        };
        Self {
            audience: audience(host),
            way,
        }
    }

    /// A token as it is now.
    pub(super) fn token(&self, until: Deadline) -> Answered<Zeroizing<String>> {
        let answer = match &self.way {
            Way::Federated {
                token,
                tenant,
                client,
                directory,
            } => self.of_directory(directory, [tenant, client], &shown(token)?, until)?,
            Way::Machine { client, metadata } => self.of_machine(metadata, *client, until)?,
        };
        answer.token().ok_or_else(|| match self.way {
            Way::Federated { .. } => refused(&answer),
            Way::Machine { .. } => refused(&answer).unvouched(),
        })
    }

    fn of_machine(
        &self,
        metadata: &Server,
        client: Option<Uuid>,
        until: Deadline,
    ) -> Answered<Answer> {
        let resource = format!("https://{}", self.audience);
        let client = client.map(|client| client.to_string());
        let mut fields = vec![("api-version", METADATA_API), ("resource", &resource)];
        fields.extend(client.as_deref().map(|client| ("client_id", client)));
        let query = form(&fields);
        let request = Request::get(format!("/metadata/identity/oauth2/token?{}", &*query));
        let request = request.with(METADATA_HEADER, HeaderValue::from_static("true"));
        metadata.ask(request, until)
    }

    fn of_directory(
        &self,
        directory: &Server,
        [tenant, client]: [&Uuid; 2],
        token: &str,
        until: Deadline,
    ) -> Answered<Answer> {
        let scope = format!("https://{}/.default", self.audience);
        let body = form(&[
            ("grant_type", "client_credentials"),
            ("client_id", &client.to_string()),
            ("scope", &scope),
            ("client_assertion_type", ASSERTION),
            ("client_assertion", token),
        ]);
        let path = format!("/{tenant}/oauth2/v2.0/token");
        let request = Request::post(path, "application/x-www-form-urlencoded", body.as_bytes());
        directory.ask(request, until)
    }
}

/// Whom a token for this vault is for. A vault by another name is taken for one of the public cloud.
fn audience(host: &str) -> &'static str {
    let [public, ..] = AUDIENCES;
    let is_of = |audience: &&&str| {
        let rest = host.strip_suffix(**audience);
        rest.is_some_and(|rest| rest.ends_with('.'))
    };
    AUDIENCES.iter().find(is_of).copied().unwrap_or(public)
}

/// What an answer without a token means. Its description may name what was sent, so the code alone is told.
fn refused(answer: &Answer) -> Failure {
    let Some(refused) = answer.json::<Refused>() else {
        return answer.failure(Class::Away, "", FOREIGN, "");
    };
    let told = format!(" {:?}", printable(&refused.error));
    let (class, what) = match refused.error.as_str() {
        "invalid_client" | "invalid_grant" | "unauthorized_client" | "access_denied" => (
            Class::Denied,
            "the directory knows no such identity, or the token has ended or is none that it trusts",
        ),
        // The metadata service's word for an identity that is not attached, too ("Error handling").
        "invalid_request" | "invalid_resource" | "invalid_scope" => (
            Class::Denied,
            "no such identity is attached to this machine, or the directory does not know the vault",
        ),
        _ => (Class::Away, "no token is given now"),
    };
    answer.failure(class, &told, what, "a token")
}

#[cfg(test)]
#[path = "../tests/azure_login.rs"]
mod tests;
