#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Opens the volumes of a confidential VM in an initrd made by dracut. Opt in with
#     add_dracutmodules+=" nightlatch "
# in /etc/dracut.conf.d/. The configuration is taken from the machine that builds: /etc/nightlatch/nightlatch.toml.

# shellcheck disable=SC2154 # dracut sets them: initdir, moddir, systemdsystemunitdir, systemutildir, udevdir
config=/etc/nightlatch/nightlatch.toml

check() {
    require_binaries /usr/lib/nightlatch/nightlatch nightlatchctl || return 1
    # A machine that has the program need not want it in every initrd.
    return 255
}

# One of what the initrd needs for the configuration, a line each: see `nightlatchctl config show --help`.
needs() { nightlatchctl config show --list "$1" "${dracutsysrootdir-}$config"; }

depends() {
    echo systemd systemd-initrd systemd-udevd dm
    # Without a good configuration nothing is installed, and install says why.
    [ "$(needs network 2>/dev/null)" != true ] || echo systemd-networkd
}

installkernel() {
    # The drivers of all other network cards come with the dracut module systemd-networkd. Without a good configuration this
    # fails, which ends dracut; where `install` fails, it goes on.
    local modules
    modules=$(needs modules) || return 1
    # shellcheck disable=SC2086 # one word each
    [ -z "$modules" ] || hostonly='' instmods $modules
}

install() {
    [ -e "${dracutsysrootdir-}$config" ] || {
        dfatal "nightlatch: $config is missing, the initrd would open nothing"
        return 1
    }
    inst_simple "$config"
    # An invalid one is better found now than by the boot.
    nightlatchctl config check "${dracutsysrootdir-}$config" || return 1

    # nightlatchctl stays with the machine that builds.
    # shellcheck disable=SC2046 # one word each
    inst_multiple $(needs programs)
    ln_r /usr/lib/nightlatch/nightlatch "$systemdutildir/system-generators/nightlatch-generator"
    # Loaded at run time, by libtss2-tctildr and by systemd, so that no dependency names them.
    inst_libdir_file 'libtss2-tcti-device.so*' 'libtss2-rc.so*'
    inst_rules 10-dm.rules 55-dm.rules 60-persistent-storage-dm.rules 90-nightlatch.rules \
        90-nightlatch-tpm.rules 95-dm-notify.rules
    # libcryptsetup may ask OpenSSL for these.
    inst_libdir_file 'ossl-modules/legacy.so'

    # The certificates that the configuration names.
    local file
    while read -r file; do
        inst_simple "$file" || {
            dfatal "nightlatch: $file is missing, and $config names it"
            return 1
        }
    done < <(needs files)
    if [ "$(needs network)" = true ]; then
        inst_simple "$moddir/80-nightlatch.network" /usr/lib/systemd/network/80-nightlatch.network
        inst_multiple "$systemdsystemunitdir"/network{,-pre,-online}.target
    fi

    # Repairs, where somebody has a reason to.
    ! needs file-systems | grep -qx btrfs || inst_multiple -o btrfs

    inst_multiple -o "$systemdsystemunitdir"/cryptsetup-pre.target "$systemdsystemunitdir"/tpm2.target \
        "$systemdsystemunitdir"/modprobe@.service "$systemdsystemunitdir"/cryptsetup.target
    inst_multiple "$systemdsystemunitdir"/nightlatch.service "$systemdsystemunitdir"/nightlatch-volumes.target \
        "$systemdsystemunitdir"/nightlatch-reboot.{service,timer}
    $SYSTEMCTL -q --root "$initdir" add-requires initrd-root-fs.target nightlatch.service

    local other_volumes=
    [ "$(needs other-volumes)" != true ] || other_volumes=--other-volumes
    "$moddir/close-initrd" "$moddir/closed" "$initdir" "$other_volumes"
}
