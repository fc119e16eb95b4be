package dev.kogge.maven;

import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.eclipse.aether.RepositorySystemSession;

/**
 * What {@code .mvn/kogge.properties} and {@code -Dkogge.…} say; the latter win. Relative paths are
 * meant from the project.
 */
final class Settings {
    /** How long a build waits for the node to know what the network knows. */
    private static final Duration LIVE_LIMIT = Duration.ofSeconds(5);

    private final Path project;
    private final Properties properties = new Properties();

    private Settings(Path project) {
        this.project = project;
    }

    static Settings of(RepositorySystemSession session) throws IOException {
        String project = session.getSystemProperties().get("maven.multiModuleProjectDirectory");
        if (project == null) {
            project = System.getProperty("maven.multiModuleProjectDirectory",
                    System.getProperty("user.dir"));
        }
        Settings settings = new Settings(Path.of(project));
        Path file = settings.project.resolve(".mvn").resolve("kogge.properties");
        if (Files.exists(file)) {
            try (InputStream in = Files.newInputStream(file)) {
                settings.properties.load(in);
            }
        }
        settings.override(session.getSystemProperties());
        settings.override(session.getUserProperties());
        return settings;
    }

    private void override(Map<String, String> given) {
        given.forEach((key, value) -> {
            if (key.startsWith("kogge.")) {
                properties.setProperty(key, value);
            }
        });
    }

    /** The folder of the project, of all its modules. */
    Path project() {
        return project;
    }

    boolean isEnabled() {
        return !"false".equalsIgnoreCase(text("kogge.enabled"));
    }

    /** The network's genesis; null for the one that the data folder has joined. */
    Path genesis() {
        String text = text("kogge.genesis");
        return text.isEmpty() ? null : project.resolve(text);
    }

    List<String> peers() {
        return list("kogge.peers");
    }

    List<String> bootstrapUrls() {
        return list("kogge.bootstrapUrls");
    }

    /** A file in the form of the node's configuration; null for none. */
    Path config() {
        String text = text("kogge.config");
        return text.isEmpty() ? null : project.resolve(text);
    }

    /** The folder with the slots. */
    Path dataFolder() {
        String text = text("kogge.dataDir");
        return text.isEmpty()
                ? Path.of(System.getProperty("user.home"), ".cache", "kogge", "maven")
                : project.resolve(text);
    }

    Duration liveLimit() {
        String text = text("kogge.liveSeconds");
        try {
            return text.isEmpty() ? LIVE_LIMIT : Duration.ofSeconds(Integer.parseInt(text));
        } catch (NumberFormatException e) {
            throw new IllegalArgumentException("kogge.liveSeconds: not a number: " + text);
        }
    }

    /** Ids of the repositories whose files the network may give; {@code *} is all. */
    List<String> repositories() {
        List<String> given = list("kogge.repositories");
        return given.isEmpty() ? List.of("central") : given;
    }

    private String text(String key) {
        return properties.getProperty(key, "").trim();
    }

    private List<String> list(String key) {
        List<String> parts = new ArrayList<>(Arrays.asList(text(key).split("[,\\s]+")));
        parts.removeIf(String::isEmpty);
        return parts;
    }
}
