package dev.kogge.maven;

import dev.kogge.LogEntry;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;
import org.apache.maven.artifact.Artifact;
import org.apache.maven.plugin.MojoFailureException;

/** {@code kogge:verify}. */
public final class VerifyMojo extends NodeMojo {
    private boolean failOnMissing;
    private File report;

    /** What became of one artifact. */
    private static final class Finding {
        final String path;
        /** {@code verified}, {@code different} or {@code missing}. */
        final String state;
        final String found;
        /** What the log has; empty if it lacks it. */
        final String logged;
        final long index;

        Finding(String path, String state, String found, String logged, long index) {
            this.path = path;
            this.state = state;
            this.found = found;
            this.logged = logged;
            this.index = index;
        }

        String json() {
            return "{\"path\": " + quote(path) + ", \"state\": " + quote(state) + ", \"sha256\": "
                    + quote(found) + (logged.isEmpty() ? "" : ", \"logged_sha256\": " + quote(logged)
                    + ", \"log_index\": " + index) + "}";
        }

        /** As a line: the state, the digest, the path. */
        String text() {
            return state + "  " + found + "  " + path
                    + (logged.isEmpty() ? "" : "  entry " + index + ": " + logged);
        }

        private static String quote(String text) {
            return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
        }
    }

    @Override
    void run(Settings settings, EmbeddedNode node) throws IOException, MojoFailureException {
        List<Finding> findings = new ArrayList<>();
        for (Artifact it : dependencies()) {
            findings.add(compare(it, entries(node, it)));
        }
        long different = count(findings, "different");
        long missing = count(findings, "missing");
        for (Finding it : findings) {
            if (it.state.equals("different")) {
                getLog().error(it.path + " is not what the log says: it has SHA-256 " + it.found
                        + ", entry " + it.index + " says " + it.logged);
            } else if (it.state.equals("missing")) {
                getLog().warn(it.path + " is not in the log");
            }
        }
        getLog().info(count(findings, "verified") + " artifacts are what the log says, " + different
                + " differ, " + missing + " are not in the log");
        write(findings);
        if (different != 0) {
            throw new MojoFailureException(different + " artifacts are not what the log says");
        }
        if (failOnMissing && missing != 0) {
            throw new MojoFailureException(missing + " artifacts are not in the log");
        }
    }

    private static Finding compare(Artifact it, List<LogEntry> entries) throws IOException {
        String found = sha256(it.getFile().toPath());
        Finding finding = new Finding(path(it), "missing", found, "", 0);
        for (LogEntry entry : entries) {
            if (!entry.file().equals(file(it)) || entry.removedBy().isPresent()) {
                continue;
            }
            boolean isSame = entry.sha256().equals(found);
            finding = new Finding(path(it), isSame ? "verified" : "different", found, entry.sha256(),
                    entry.index());
            if (isSame) {
                break;
            }
        }
        return finding;
    }

    private static long count(List<Finding> findings, String state) {
        return findings.stream().filter(it -> it.state.equals(state)).count();
    }

    private void write(List<Finding> findings) throws IOException {
        Path file = report.toPath();
        if (file.getParent() != null) {
            Files.createDirectories(file.getParent());
        }
        Files.writeString(file, file.toString().endsWith(".txt") ? lines(findings) : json(findings));
        getLog().info("report: " + file);
    }

    private static String lines(List<Finding> findings) {
        return findings.stream().map(it -> it.text() + "\n").collect(Collectors.joining());
    }

    private static String json(List<Finding> findings) {
        return findings.stream().map(it -> "  " + it.json())
                .collect(Collectors.joining(",\n", "{\"artifacts\": [\n", "\n]}\n"));
    }

    private static String sha256(Path file) throws IOException {
        try (InputStream in = Files.newInputStream(file)) {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            byte[] chunk = new byte[1 << 16];
            for (int count; (count = in.read(chunk)) > 0; ) {
                digest.update(chunk, 0, count);
            }
            StringBuilder text = new StringBuilder();
            for (byte it : digest.digest()) {
                text.append(String.format("%02x", it));
            }
            return text.toString();
        } catch (NoSuchAlgorithmException e) {
            throw new IOException(e);
        }
    }
}
