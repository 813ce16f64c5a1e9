# Sourced by tools/demo and tools/test: what must be there before anything of ours can run.

say() { printf '\033[1m==>\033[0m %s\n' "$*" >&2; }
# In a log, with the minutes and seconds so far.
[ -t 2 ] || say() { printf '==> %d:%02d %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*" >&2; }

fail() {
    printf 'ravelin: %s\n' "$*" >&2
    exit 1
}

# For a command line that is wrong.
usage_error() {
    printf 'ravelin: %s\n' "$*" >&2
    exit 2
}

# need COMMAND PACKAGE: installs a Debian package for a command that is missing.
need() {
    command -v "$1" >/dev/null 2>&1 && return
    say "installing $2"
    if [ "$(id -u)" = 0 ]; then
        { apt-get install -y --no-install-recommends "$2" \
            || { apt-get update && apt-get install -y --no-install-recommends "$2"; }; } \
            </dev/null >/dev/null 2>&1 || fail "the package $2 could not be installed: try apt-get install $2"
    else
        fail "$1 is missing: run sudo apt-get install $2"
    fi
}

# The compiler and the linker that every build needs.
need_rust() {
    [ -f "$HOME/.cargo/env" ] && . "$HOME/.cargo/env"
    command -v cargo >/dev/null 2>&1 \
        || fail "cargo is missing: install Rust 1.95 or newer with rustup, Debian's own is too old"
    need cc gcc
    need python3 python3
}

# need_cargo_tool COMMAND CRATE: installs a cargo subcommand that is missing.
need_cargo_tool() {
    command -v "$1" >/dev/null 2>&1 && return
    say "installing $2 (a few minutes)"
    cargo install --locked --target-dir "${TMPDIR:-/tmp}/ravelin-$2" "$2" >&2 || fail "$2 could not be installed"
}
