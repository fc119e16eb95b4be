package dev.kogge.maven;

import dev.kogge.LogEntry;
import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
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
        /** {@code verified}, {@code different}, {@code withdrawn} or {@code missing}. */
        final String state;
        final String found;
        /** What the log has; null if it lacks it. */
        final LogEntry logged;

        Finding(String path, String state, String found, LogEntry logged) {
            this.path = path;
            this.state = state;
            this.found = found;
            this.logged = logged;
        }

        String json() {
            return "{\"path\": " + quote(path) + ", \"state\": " + quote(state) + ", \"sha256\": "
                    + quote(found) + (logged == null ? "" : ", \"logged_sha256\": "
                    + quote(logged.sha256()) + ", \"log_index\": " + logged.index()) + "}";
        }

        /** As a line: the state, the digest, the path. */
        String text() {
            return state + "  " + found + "  " + path
                    + (logged == null ? "" : "  entry " + logged.index() + ": " + logged.sha256());
        }

        private static String quote(String text) {
            return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
        }
    }

    @Override
    void run(Settings settings, EmbeddedNode node) throws IOException, MojoFailureException {
        List<Finding> findings = new ArrayList<>();
        for (Artifact it : dependencies()) {
            findings.add(compare(it, node));
        }
        findings.forEach(this::tell);
        long different = count(findings, "different");
        long withdrawn = count(findings, "withdrawn");
        long missing = count(findings, "missing");
        getLog().info(count(findings, "verified") + " artifacts are what the log says, " + different
                + " differ, " + withdrawn + " were withdrawn, " + missing + " are not in the log");
        write(findings);
        if (different + withdrawn != 0) {
            throw new MojoFailureException(different + " artifacts are not what the log says, "
                    + withdrawn + " were withdrawn");
        }
        if (failOnMissing && missing != 0) {
            throw new MojoFailureException(missing + " artifacts are not in the log");
        }
    }

    private void tell(Finding it) {
        if (it.state.equals("different")) {
            getLog().error(it.path + " is not what the log says: it has SHA-256 " + it.found
                    + ", entry " + it.logged.index() + " says " + it.logged.sha256());
        } else if (it.state.equals("withdrawn")) {
            getLog().error(it.path + " was withdrawn from the log: entry " + it.logged.index()
                    + ", by entry " + it.logged.removedBy().getAsLong());
        } else if (it.state.equals("missing")) {
            getLog().warn(it.path + " is not in the log");
        }
    }

    private static Finding compare(Artifact it, EmbeddedNode node) throws IOException {
        String found = Digests.sha256(it.getFile().toPath());
        Finding finding = null;
        for (LogEntry entry : entries(node, it)) {
            if (!entry.file().equals(file(it))) {
                continue;
            }
            boolean isSame = entry.sha256().equals(found);
            finding = new Finding(path(it), isSame ? "verified" : "different", found, entry);
            if (isSame) {
                break;
            }
        }
        if (finding != null) {
            return finding;
        }
        LogEntry withdrawn = node.withdrawn(what(it), file(it));
        return new Finding(path(it), withdrawn == null ? "missing" : "withdrawn", found, withdrawn);
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
}
