package dev.kogge.maven;

import dev.kogge.LogEntry;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.TreeMap;
import org.apache.maven.artifact.Artifact;

/** {@code kogge:lock}. */
public final class LockMojo extends NodeMojo {
    /** Where Maven is told to look; the name is Maven's. */
    private static final String FILE = ".mvn/checksums/checksums.sha256";

    @Override
    void run(Settings settings, EmbeddedNode node) throws IOException {
        TreeMap<String, String> lines = new TreeMap<>();
        int missing = 0;
        for (Artifact it : dependencies()) {
            boolean isThere = false;
            // The pom beside the jar, too: Maven reads both.
            for (LogEntry entry : entries(node, it)) {
                if (!entry.file().contains("/")) {
                    lines.put(folder(it) + entry.file(), entry.sha256());
                    isThere |= entry.file().equals(file(it));
                }
            }
            if (!isThere) {
                boolean wasThere = node.withdrawn(what(it), file(it)) != null;
                getLog().warn(path(it) + (wasThere ? " was withdrawn from the log"
                        : " is not in the log"));
                missing++;
            }
        }
        StringBuilder text = new StringBuilder();
        lines.forEach((path, sha256) -> text.append(sha256).append("  ").append(path).append('\n'));
        Path file = settings.project().resolve(FILE);
        Files.createDirectories(file.getParent());
        Files.writeString(file, text);
        getLog().info(lines.size() + " checksums from the log in " + file + ", " + missing
                + " artifacts are not in the log");
    }
}
