# shellcheck shell=bash
# What building needs. Sourced after lib.sh.

command -v cargo >/dev/null ||
    fail "Rust is not installed (there is no cargo)" "install it as https://rustup.rs says, open a new shell, and run this again"
if ! command -v cc >/dev/null || ! [ -e /usr/include/stdio.h ]; then
    apt_install "building" gcc libc6-dev
fi
