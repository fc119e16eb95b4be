package dev.kogge;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryIteratorException;
import java.nio.file.DirectoryStream;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.attribute.FileAttribute;
import java.nio.file.attribute.FileTime;
import java.nio.file.attribute.PosixFilePermissions;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;

/**
 * Finds and loads the native library: {@code -Dkogge.library.path} (a file or its folder) alone if
 * that is given; else {@code java.library.path}; else the copy in this jar, which is written once
 * per user into {@code ~/.cache/kogge/native/SHA-256/}, or else into the folder for temporary files,
 * and checked against its SHA-256 each time. Copies of other versions go when nobody has loaded them
 * for a month.
 */
final class NativeLibrary {
    private static final String NAME = "kogge_jni";

    private static final String DIGEST = "[0-9a-f]{64}";

    /** A copy that nobody has loaded for so long is removed. */
    private static final Duration UNUSED_MAX = Duration.ofDays(30);

    private NativeLibrary() {}

    static void load() {
        String file = System.mapLibraryName(NAME);
        String given = System.getProperty("kogge.library.path");
        if (given != null) {
            Path path = Path.of(given);
            Path library = Files.isDirectory(path) ? path.resolve(file) : path;
            if (!Files.isRegularFile(library)) {
                throw new UnsatisfiedLinkError("kogge.library.path: there is no " + library);
            }
            loadFile(library.toAbsolutePath());
            return;
        }
        List<String> tried = new ArrayList<>();
        try {
            System.loadLibrary(NAME);
            return;
        } catch (UnsatisfiedLinkError e) {
            tried.add("java.library.path: " + e.getMessage());
        }
        String resource = "native/" + platform() + "/" + file;
        try {
            Path library = extract(resource, file, userFolder());
            loadFile(library);
            removeUnused(library.getParent());
            return;
        } catch (IOException | UnsatisfiedLinkError e) {
            tried.add(userFolder() + ": " + e.getMessage());
        }
        try {
            // Readable by this user alone, and gone with this process.
            Path folder = Files.createTempDirectory("kogge-native-");
            Path library = extract(resource, file, folder);
            // The last that is named is deleted first.
            for (Path path : List.of(folder, library.getParent(), library)) {
                path.toFile().deleteOnExit();
            }
            loadFile(library);
            return;
        } catch (IOException | UnsatisfiedLinkError e) {
            tried.add(System.getProperty("java.io.tmpdir") + ": " + e.getMessage());
        }
        throw new UnsatisfiedLinkError("no native library of kogge for " + platform()
                + "; set -Dkogge.library.path; tried " + String.join("; ", tried));
    }

    /** Such as {@code linux-x86_64}. */
    static String platform() {
        String os = System.getProperty("os.name").toLowerCase(Locale.ROOT);
        String arch = System.getProperty("os.arch").toLowerCase(Locale.ROOT);
        String name = os.startsWith("mac") ? "macos" : os.startsWith("windows") ? "windows" : os;
        String machine = arch.equals("amd64") || arch.equals("x64") ? "x86_64"
                : arch.equals("arm64") ? "aarch64" : arch;
        return name + "-" + machine;
    }

    private static Path userFolder() {
        return Path.of(System.getProperty("user.home", "."), ".cache", "kogge", "native");
    }

    /** The library below {@code folder}, whose bytes are what the jar says. */
    private static Path extract(String resource, String file, Path folder) throws IOException {
        String wanted;
        try (InputStream in = open(resource + ".sha256")) {
            wanted = new String(in.readAllBytes(), StandardCharsets.US_ASCII).trim();
        }
        if (!wanted.matches(DIGEST)) {
            throw new IOException("the jar is damaged: " + resource + ".sha256");
        }
        Path home = folder.resolve(wanted);
        Files.createDirectories(home, forOwner());
        Path library = home.resolve(file);
        if (Files.isRegularFile(library) && sha256(library).equals(wanted)) {
            return library;
        }
        Path staged = Files.createTempFile(home, "new-", ".tmp");
        try {
            try (InputStream in = open(resource)) {
                Files.copy(in, staged, StandardCopyOption.REPLACE_EXISTING);
            }
            if (!sha256(staged).equals(wanted)) {
                throw new IOException("the jar is damaged: " + resource);
            }
            // Others may load it in the same moment: they see the old file or the new one.
            Files.move(staged, library, StandardCopyOption.ATOMIC_MOVE,
                    StandardCopyOption.REPLACE_EXISTING);
        } finally {
            Files.deleteIfExists(staged);
        }
        return library;
    }

    /** Says that the copy in {@code used} is in use, and removes others that are not. */
    private static void removeUnused(Path used) {
        FileTime now = FileTime.from(Instant.now());
        FileTime limit = FileTime.from(now.toInstant().minus(UNUSED_MAX));
        try {
            Files.setLastModifiedTime(used, now);
            try (DirectoryStream<Path> folders = Files.newDirectoryStream(used.getParent())) {
                for (Path folder : folders) {
                    if (folder.getFileName().toString().matches(DIGEST)
                            && Files.isDirectory(folder, LinkOption.NOFOLLOW_LINKS)) {
                        removeOlder(folder, limit);
                    }
                }
            }
        } catch (IOException | DirectoryIteratorException | SecurityException e) {
            // It costs room, and the next start tries again.
            return;
        }
    }

    private static void removeOlder(Path folder, FileTime limit) {
        try {
            if (Files.getLastModifiedTime(folder).compareTo(limit) >= 0) {
                return;
            }
            try (DirectoryStream<Path> files = Files.newDirectoryStream(folder)) {
                for (Path file : files) {
                    Files.deleteIfExists(file);
                }
            }
            Files.deleteIfExists(folder);
        } catch (IOException | DirectoryIteratorException e) {
            // Another process removes it too, or it is in use.
            return;
        }
    }

    private static void loadFile(Path library) {
        try {
            System.load(library.toString());
        } catch (UnsatisfiedLinkError e) {
            if (e.getMessage() == null || !e.getMessage().contains("another classloader")) {
                throw e;
            }
            // A library belongs to one class loader; this one gets a copy of its own, which the
            // system keeps while it is loaded.
            try {
                Path copy = Files.createTempFile(library.getParent(), "copy-", ".so");
                try {
                    Files.copy(library, copy, StandardCopyOption.REPLACE_EXISTING);
                    System.load(copy.toString());
                } finally {
                    Files.deleteIfExists(copy);
                }
            } catch (IOException failure) {
                e.addSuppressed(failure);
                throw e;
            }
        }
    }

    private static InputStream open(String resource) throws IOException {
        InputStream in = NativeLibrary.class.getResourceAsStream(resource);
        if (in == null) {
            throw new IOException("the jar has no " + resource);
        }
        return in;
    }

    private static FileAttribute<?>[] forOwner() {
        if (!FileSystems.getDefault().supportedFileAttributeViews().contains("posix")) {
            return new FileAttribute<?>[0];
        }
        return new FileAttribute<?>[] {
            PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------"))
        };
    }

    private static String sha256(Path file) throws IOException {
        try (InputStream in = Files.newInputStream(file)) {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            byte[] chunk = new byte[1 << 16];
            for (int count; (count = in.read(chunk)) > 0; ) {
                digest.update(chunk, 0, count);
            }
            return Record.hex(digest.digest());
        } catch (NoSuchAlgorithmException e) {
            throw new IOException(e);
        }
    }
}
