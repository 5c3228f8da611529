#!/usr/bin/env bash
# Makes sure that the compiler has the target that contracts are built for, and says how.
set -euo pipefail

target=wasm32v1-none
# Read from the checkout, so that its rust-toolchain.toml decides which compiler is meant.
cd "$(dirname "${BASH_SOURCE[0]}")"

installed() {
    compgen -G "$(rustc --print target-libdir --target "$target")/libcore-*.rlib" >/dev/null
}

if installed; then
    echo "$target: installed"
elif command -v rustup >/dev/null && rustup target add "$target" && installed; then
    echo "$target: added by rustup"
else
    cat >&2 <<END
error: contracts cannot be compiled, because the Rust target $target is missing.
  with rustup:     rustup target add $target
  without rustup:  install the package of your distribution that holds it
END
    exit 1
fi
