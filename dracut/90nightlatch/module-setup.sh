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

depends() {
    echo systemd systemd-initrd systemd-udevd dm
    ! wants_network || echo systemd-networkd
}

# Whether a volume has the source `service`, or the clusterID comes from there.
wants_network() {
    sed 's/#.*//' "${dracutsysrootdir-}$config" 2>/dev/null | grep -q '"service"'
}

# What keeps mkosi/close-initrd from closing the initrd to volumes that are not ours. TOML has several ways to write it.
other_volumes() {
    ! nightlatchctl --json config check "${dracutsysrootdir-}$config" | grep -q '^  "other_volumes": true' ||
        echo --other-volumes
}

# The file systems the configuration asks for; btrfs where it does not say.
file_systems() {
    {
        echo btrfs
        sed -n 's/^[[:space:]]*file-system[[:space:]]*=[[:space:]]*"\([a-z0-9]*\)".*/\1/p' \
            "${dracutsysrootdir-}$config"
    } | sort -u
}

installkernel() {
    hostonly='' instmods dm-crypt dm-integrity dm-verity dm-bufio loop overlay erofs squashfs
    # authenc(hmac(sha256),xts(aes)), the kernel's crypto as libcryptsetup uses it, and the checksums of btrfs
    hostonly='' instmods af_alg algif_skcipher algif_hash algif_aead authenc hmac sha256 sha512 xts cbc ecb essiv \
        aes aesni_intel sha256_ssse3 crypto_user blake2b_generic xxhash_generic crc32c
    hostonly='' instmods tpm tpm_crb tpm_tis virtio_blk virtio_scsi virtio_pci virtio_console efivarfs
    # shellcheck disable=SC2046 # one word each
    hostonly='' instmods $(file_systems)
    # systemd-networkd speaks DHCP over af_packet; the drivers of all other cards come with its dracut module.
    ! wants_network || hostonly='' instmods af_packet virtio_net hv_netvsc
}

install() {
    [ -e "${dracutsysrootdir-}$config" ] || {
        dfatal "nightlatch: $config is missing, the initrd would open nothing"
        return 1
    }
    inst_simple "$config"
    # An invalid one is better found now than by the boot.
    nightlatchctl config check "${dracutsysrootdir-}$config" || return 1

    inst_multiple /usr/lib/nightlatch/nightlatch nightlatchctl udevadm
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
    done < <(nightlatchctl --json config check "${dracutsysrootdir-}$config" |
        sed -n '/^  "files": \[$/,/^  \]/s/^    "\(.*\)",\{0,1\}$/\1/p')
    if wants_network; then
        inst_simple "$moddir/80-nightlatch.network" /usr/lib/systemd/network/80-nightlatch.network
        inst_multiple "$systemdsystemunitdir"/network{,-pre,-online}.target
    fi

    local name
    while read -r name; do
        inst_multiple "mkfs.$name"
        [ "$name" != btrfs ] || inst_multiple -o btrfs
    done < <(file_systems)

    inst_multiple -o "$systemdsystemunitdir"/cryptsetup-pre.target "$systemdsystemunitdir"/tpm2.target \
        "$systemdsystemunitdir"/modprobe@.service "$systemdsystemunitdir"/cryptsetup.target
    inst_multiple "$systemdsystemunitdir"/nightlatch.service "$systemdsystemunitdir"/nightlatch-volumes.target \
        "$systemdsystemunitdir"/nightlatch-reboot.{service,timer}
    $SYSTEMCTL -q --root "$initdir" add-requires initrd-root-fs.target nightlatch.service

    "$moddir/close-initrd" "$moddir/closed" "$initdir" "$(other_volumes)"
}
