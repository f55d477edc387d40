# SPDX-License-Identifier: Apache-2.0
# What `nightlatchd init --kms`, `kms wrap` and `kms recover` need at OpenBao or Vault: a token of an hour for whoever runs them.
#
#   bao policy write nightlatch-wrap openbao-nightlatchd-init.hcl
#
# No `create` on encrypt: with it, a name that is misspelt would make a key of that name.

path "transit/encrypt/nightlatch" {
  capabilities = ["update"]
}

path "transit/decrypt/nightlatch" {
  capabilities = ["update"]
}

path "transit/keys/nightlatch" {
  capabilities = ["read"]
}
