#!/usr/bin/env sh
# Finds Java 17 or 21, which Spark 4 needs; installs it with the system's package manager where that may be done.
# Otherwise says, in one line, what to type. Exit 0 when a usable Java is there.
set -u

usable() {
    version=$("$1" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "$version" = 17 ] || [ "$version" = 21 ]
}

find_java() {
    for candidate in "${JAVA_HOME:-/nowhere}/bin/java" "$(command -v java || true)" /usr/lib/jvm/*/bin/java \
        /Library/Java/JavaVirtualMachines/*/Contents/Home/bin/java /opt/homebrew/opt/openjdk@17/bin/java; do
        if [ -x "$candidate" ] && usable "$candidate"; then
            return 0
        fi
    done
    return 1
}

find_java && exit 0

if [ "$(id -u)" = 0 ]; then as_root=""; elif sudo -n true 2>/dev/null; then as_root="sudo -n"; else as_root="no"; fi
if command -v apt-get >/dev/null; then
    package="$(. /etc/os-release; case "${ID}${VERSION_ID:-}" in debian13*) echo openjdk-21-jre-headless;; *) echo openjdk-17-jre-headless;; esac)"
    install="apt-get install -y $package"
elif command -v dnf >/dev/null; then
    install="dnf install -y java-17-openjdk-headless"
elif command -v brew >/dev/null; then
    install="brew install openjdk@17"; as_root=""
else
    echo "licet: Spark needs Java 17 or 21 and none was found: install a JDK and set JAVA_HOME." >&2
    exit 1
fi
if [ "$as_root" = no ]; then
    echo "licet: Spark needs Java 17 or 21 and none was found: type 'sudo $install'." >&2
    exit 1
fi
echo "licet: installing Java for Spark: $install" >&2
case "$install" in apt-get*) $as_root apt-get update -qq >&2 || true ;; esac
$as_root $install >&2
find_java || { echo "licet: Java was installed but cannot be found: set JAVA_HOME to its folder." >&2; exit 1; }
