package dev.kogge.maven;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;

/** Digests in lower-case hex. */
final class Digests {
    private Digests() {}

    static String hex(byte[] bytes) {
        StringBuilder text = new StringBuilder(2 * bytes.length);
        for (byte it : bytes) {
            text.append(Character.forDigit(it >> 4 & 0xf, 16)).append(Character.forDigit(it & 0xf, 16));
        }
        return text.toString();
    }

    static String sha256(Path file) throws IOException {
        try (InputStream in = Files.newInputStream(file)) {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            byte[] chunk = new byte[1 << 16];
            for (int count; (count = in.read(chunk)) > 0; ) {
                digest.update(chunk, 0, count);
            }
            return hex(digest.digest());
        } catch (NoSuchAlgorithmException e) {
            throw new IOException(e);
        }
    }
}
