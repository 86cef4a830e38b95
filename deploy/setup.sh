#!/usr/bin/env bash
# Installs the Debian packages that building, testing and the demo need and that are missing.
# Without root it prints the one line to run. Starts no daemon. Fast when nothing is missing.
set -euo pipefail

packages=(
    ca-certificates              # cargo talks to crates.io
    gcc libc6-dev make pkg-config m4 # the vendored libxdp and libbpf
    libelf-dev zlib1g-dev        # what libbpf links
    clang libbpf-dev linux-libc-dev # our BPF programs, and libclang for bindgen
    iproute2 ethtool             # the lab
    bpftool                      # tests look at the kernel through it
    netsniff-ng                  # trafgen, a generator nobody here wrote
    prometheus                   # promtool and a real scraper
)

installed() {
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing_packages() {
    local package
    for package in "${packages[@]}"; do
        installed "$package" || printf '%s\n' "$package"
    done
}

# Packages' scripts ask policy-rc.d before they start a service: for the time of the
# installation it says no (101), unless the administrator has one already.
forbid_daemons() {
    local policy=/usr/sbin/policy-rc.d
    [ -e "$policy" ] && return
    # shellcheck disable=SC2064 # the path of now
    trap "rm -f '$policy'" EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
}

install_missing() {
    export DEBIAN_FRONTEND=noninteractive
    forbid_daemons
    apt-get update -qq
    apt-get install -qq -y --no-install-recommends "$@"
    # Nor at the next boot: only its programs are wanted.
    if [[ " $* " == *" prometheus "* ]] && command -v systemctl >/dev/null; then
        systemctl disable prometheus.service >/dev/null 2>&1 || true
    fi
}

check_packages() {
    if ! command -v dpkg-query >/dev/null; then
        echo "setup: not a Debian; see to these yourself: ${packages[*]}" >&2
        return
    fi
    local missing
    mapfile -t missing < <(missing_packages)
    [ "${#missing[@]}" -eq 0 ] && return
    if [ "$(id -u)" -ne 0 ]; then
        echo "setup: some packages are missing; run this, then try again:" >&2
        echo "  sudo apt-get update && sudo apt-get install --no-install-recommends ${missing[*]}" >&2
        exit 1
    fi
    echo "setup: installing ${missing[*]}"
    install_missing "${missing[@]}"
}

check_rust() {
    local tool
    for tool in cargo cargo-fmt cargo-clippy; do
        command -v "$tool" >/dev/null && continue
        echo "setup: $tool is missing; install Rust with rustup (https://rustup.rs), or add the" >&2
        echo "setup: component: rustup component add rustfmt clippy" >&2
        exit 1
    done
}

check_packages
check_rust
