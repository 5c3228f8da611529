#!/bin/sh
# Makes sure that Rust can compile contracts, that is, for wasm32v1-none. Tries, in this order:
#   1. the target is installed;
#   2. `rustup target add`;
#   3. Debian's rustc-web with its sources, unpacked into a private folder (nothing is installed, no root is needed);
# and otherwise says what to install.
#
#   deploy/wasm-target.sh [FOLDER]      FOLDER is where way 3 unpacks: default ~/.cache/phala/rust-web
#
# On stdout: one line, `installed`, `rustup`, or `debian FOLDER`. On stderr: which way it took, for people.
# With `debian FOLDER`, cargo must be run with RUSTC=FOLDER/rustc, RUSTC_BOOTSTRAP=1, -Zbuild-std=core,alloc and the
# linker FOLDER/rust-lld for the target. `phala build` does so.
set -eu

target=wasm32v1-none
folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/phala/rust-web}

say() { echo "wasm-target: $*" >&2; }

installed() {
    libdir=$(rustc --print target-libdir --target "$target" 2>/dev/null) || return 1
    ls "$libdir"/libcore-*.rlib >/dev/null 2>&1
}

# The one dependency of package $1 whose name begins with $2.
dependency() {
    apt-cache depends "$1" 2>/dev/null | sed -n "s/^ *Depends: \($2[^ ]*\)\$/\1/p" | head -n 1
}

unpack_debian() {
    command -v apt-get >/dev/null && command -v dpkg >/dev/null || return 1
    lld=$(find "$(rustc --print sysroot)/lib/rustlib" -name rust-lld | head -n 1)
    [ -n "$lld" ] || return 1
    std=$(dependency libstd-rust-web-dev libstd-rust-web-)
    [ -n "$std" ] || return 1
    llvm=$(dependency "$std" libllvm)
    new="$folder.new"
    rm -rf "$new"
    mkdir -p "$new/debs" "$new/root"
    (cd "$new/debs" && apt-get -q download rustc-web "$std" libstd-rust-web-dev rust-web-src ${llvm:+"$llvm"} >&2) || return 1
    for package in "$new"/debs/*.deb; do
        dpkg -x "$package" "$new/root" || return 1
    done
    rm -rf "$new/debs"
    sources=$(cd "$new/root/usr/src" && ls -d rustc-* | head -n 1)
    mkdir -p "$new/root/usr/lib/rustlib/src"
    rm -rf "$new/root/usr/lib/rustlib/src/rust"
    ln -s "../../../src/$sources" "$new/root/usr/lib/rustlib/src/rust"
    ln -s "$lld" "$new/rust-lld"
    compiler=$(ls "$new/root/usr/bin/rustc" "$new"/root/usr/lib/rust-*/bin/rustc 2>/dev/null | head -n 1)
    [ -n "$compiler" ] || return 1
    compiler=${compiler#"$new"/}
    libraries=$(dirname "$(find "$new/root" -name 'librustc_driver-*.so' | head -n 1)")
    libraries=${libraries#"$new"/}
    cat >"$new/rustc" <<WRAPPER
#!/bin/sh
here=$folder
LD_LIBRARY_PATH="\$here/$libraries:\$here/root/usr/lib/$(uname -m)-linux-gnu\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}"
export LD_LIBRARY_PATH
exec "\$here/$compiler" "\$@"
WRAPPER
    chmod +x "$new/rustc"
    rm -rf "$folder"
    mv "$new" "$folder"
    "$folder/rustc" --version >&2
}

if installed; then
    say "$target is installed"
    echo installed
elif command -v rustup >/dev/null && rustup target add "$target" >&2 && installed; then
    say "rustup installed $target"
    echo rustup
elif [ -x "$folder/rustc" ] && "$folder/rustc" --version >&2; then
    say "using Debian's compiler in $folder"
    echo "debian $folder"
elif unpack_debian; then
    say "unpacked Debian's compiler into $folder"
    echo "debian $folder"
else
    rm -rf "$folder.new"
    say "no way to get $target; with rustup: rustup target add $target"
    say "on Debian: apt-get update, then run this again (it unpacks rustc-web); otherwise install Rust from https://rustup.rs"
    exit 1
fi
