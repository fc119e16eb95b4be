package dev.kogge.maven;

import java.util.Locale;

/** The file of a released package that a path of a repository means. */
final class Coordinates {
    /** What may change, or is about another file: metadata, checksums, signatures. */
    private static final String[] OTHERS = {
        ".md5", ".sha1", ".sha256", ".sha512", ".asc", ".sigstore", ".sigstore.json"
    };

    /** Such as {@code org.example:lib:1.0}. */
    final String what;
    /** Such as {@code lib-1.0.jar}. */
    final String file;

    private Coordinates(String what, String file) {
        this.what = what;
        this.file = file;
    }

    /** The file that {@code path} means; null if it is none that never changes. */
    static Coordinates of(String path) {
        String[] parts = path.split("/");
        int count = parts.length;
        if (count < 4) {
            return null;
        }
        String file = parts[count - 1];
        String version = parts[count - 2];
        String artifact = parts[count - 3];
        StringBuilder group = new StringBuilder();
        for (int i = 0; i < count - 3; i++) {
            if (parts[i].isEmpty() || parts[i].startsWith(".")) {
                return null;
            }
            group.append(i == 0 ? "" : ".").append(parts[i]);
        }
        if (!file.startsWith(artifact + "-" + version) || version.endsWith("-SNAPSHOT")) {
            return null;
        }
        String lower = file.toLowerCase(Locale.ROOT);
        for (String other : OTHERS) {
            if (lower.endsWith(other)) {
                return null;
            }
        }
        return new Coordinates(group + ":" + artifact + ":" + version, file);
    }

    @Override
    public String toString() {
        return what + " " + file;
    }
}
