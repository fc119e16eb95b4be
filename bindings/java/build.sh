#!/bin/sh
# Compiles the Java classes and packs the jars into a folder that is a Maven repository. Needs a JDK
# (17 or later) and, for the extension and the plugin, the jars of Maven 3.8, against which they are
# compiled; nothing is downloaded.
#
#   bindings/java/build.sh LIBRARY REPOSITORY
#
# LIBRARY is libkogge_jni.so of this machine, REPOSITORY the folder. MAVEN_LIB names the folder with
# Maven's jars if it is not /usr/share/maven/lib.
set -eu

library=$1
mkdir -p "$2"
repository=$(cd "$2" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
maven=${MAVEN_LIB:-/usr/share/maven/lib}
version=$(sed -n 's|^  <version>\(.*\)</version>$|\1|p' "$here/kogge/pom.xml")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# compile NAME CLASSPATH: classes of that module into $work/NAME. Release 11, as Debian's Maven skips
# components that are newer.
compile() {
    mkdir -p "$work/$1"
    find "$here/$1/src" -name '*.java' > "$work/sources"
    javac --release 11 -encoding UTF-8 -Xlint:all,-processing,-options,-path -Werror -proc:none \
        -cp "$2" -d "$work/$1" "@$work/sources"
    if [ -d "$here/$1/resources" ]; then
        cp -R "$here/$1/resources/." "$work/$1"
    fi
}

# pack NAME ARTIFACT MODULE: its jar and pom, with the checksums without which Maven 4 takes neither.
# One date, so that equal classes make an equal jar.
pack() {
    folder="$repository/dev/kogge/$2/$version"
    mkdir -p "$folder"
    printf 'Automatic-Module-Name: %s\n' "$3" > "$work/manifest"
    jar --create --date=2026-01-01T00:00:00Z --file "$work/new.jar" --manifest "$work/manifest" \
        -C "$work/$1" .
    mv "$work/new.jar" "$folder/$2-$version.jar"
    cp "$here/$1/pom.xml" "$folder/$2-$version.pom"
    for file in "$folder/$2-$version.jar" "$folder/$2-$version.pom"; do
        sha1sum < "$file" | cut -d ' ' -f 1 > "$file.sha1"
    done
}

compile kogge "$work"
# As `NativeLibrary.platform()` names this machine.
natives="$work/kogge/dev/kogge/native/linux-$(uname -m)"
mkdir -p "$natives"
strip --strip-unneeded -o "$natives/libkogge_jni.so" "$library"
sha256sum < "$natives/libkogge_jni.so" | cut -d ' ' -f 1 > "$natives/libkogge_jni.so.sha256"
pack kogge kogge dev.kogge

kogge="$repository/dev/kogge/kogge/$version/kogge-$version.jar"
maven_jars=$(find -L "$maven" -name '*.jar' | tr '\n' ':')
compile maven-extension "$kogge:$maven_jars"
pack maven-extension kogge-maven-extension dev.kogge.maven

# The plugin opens a node as the extension does, and is no extension.
compile maven-plugin "$kogge:$work/maven-extension:$maven_jars"
for class in Coordinates Digests EmbeddedNode Reason Settings; do
    cp "$work/maven-extension/dev/kogge/maven/$class"*.class "$work/maven-plugin/dev/kogge/maven"
done
pack maven-plugin kogge-maven-plugin dev.kogge.maven.plugin
