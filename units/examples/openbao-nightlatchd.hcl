# SPDX-License-Identifier: Apache-2.0
# What the token of a running nightlatchd may do at OpenBao or Vault: unwrap, and nothing else.
#
#   bao policy write nightlatch-unwrap openbao-nightlatchd.hcl
#
# The path is MOUNT/decrypt/NAME of kms.key. `nightlatchd kms check` says what a token has beside.

path "transit/decrypt/nightlatch" {
  capabilities = ["update"]
}
