#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# For the boot-chain tests only: fills a new root volume, and tells how a boot ended that did not go on.

# shellcheck disable=SC2154 # dracut sets them: initdir, moddir, systemdsystemunitdir

check() {
    return 255
}

depends() {
    echo nightlatch
}

install() {
    local units=/etc/systemd/system
    inst_multiple bash cp cut journalctl mkdir mount systemctl tr umount true
    # As the demo's initrd has them.
    inst_multiple /usr/lib/nightlatch-demo/failed "$systemdsystemunitdir/nightlatch-demo-failed.service" \
        "$units/nightlatch.service.d/50-demo.conf"
    inst_simple /usr/lib/nightlatch-demo/target.d/50-demo.conf "$units/target.d/50-demo.conf"
    inst_simple "$moddir/populate.service" "$systemdsystemunitdir/nightlatch-test-populate.service"
    $SYSTEMCTL -q --root "$initdir" add-requires initrd-root-fs.target nightlatch-test-populate.service
}
