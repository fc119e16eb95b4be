package dev.kogge.test;

import dev.kogge.KoggeConfig;
import dev.kogge.KoggeNode;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** The running network that `KOGGE_SCENE` describes. */
final class Scene {
    static final Duration LIMIT = Duration.ofSeconds(60);

    final Map<String, Object> value;
    final Path folder = Files.createTempDirectory("kogge-java-test-");

    Scene() throws IOException {
        value = Json.object(Files.readString(Path.of(System.getenv("KOGGE_SCENE"))));
    }

    /** One of the artifacts of the scene. */
    static final class Known {
        final String name;
        final String what;
        final String purl;
        final String file;
        final String blake3;
        final String sha256;
        final long size;
        final long index;
        final Path path;
        final Path waybill;

        Known(Map<String, Object> it) {
            name = (String) it.get("name");
            what = (String) it.get("what");
            purl = (String) it.get("purl");
            file = (String) it.get("file");
            blake3 = (String) it.get("blake3");
            sha256 = (String) it.get("sha256");
            size = (Long) it.get("size");
            index = (Long) it.get("index");
            path = Path.of((String) it.get("path"));
            waybill = Path.of((String) it.get("waybill"));
        }

        byte[] bytes() throws IOException {
            return Files.readAllBytes(path);
        }
    }

    String text(String key) {
        return (String) value.get(key);
    }

    Path path(String key) {
        return Path.of(text(key));
    }

    @SuppressWarnings("unchecked")
    List<Known> artifacts() {
        List<Known> known = new ArrayList<>();
        ((List<Map<String, Object>>) value.get("artifacts")).forEach(it -> known.add(new Known(it)));
        return known;
    }

    Known artifact(String name) {
        return artifacts().stream().filter(it -> it.name.equals(name)).findAny().orElseThrow();
    }

    /** A configuration for a new node of the network, with peers. */
    KoggeConfig config(String name) throws IOException {
        KoggeConfig config = alone(name);
        ((List<?>) value.get("peers")).forEach(it -> config.peer((String) it));
        return config;
    }

    /** A configuration for a node that knows nobody: it never becomes live. */
    KoggeConfig alone(String name) throws IOException {
        return KoggeConfig.in(folder.resolve(name)).genesis(path("genesis"));
    }

    /** A node that has reached the head of the log. */
    KoggeNode node(String name) throws IOException, InterruptedException {
        return live(config(name));
    }

    /** A node to which bytes come so slowly that a fetch does not end. */
    KoggeNode slow(String name) throws IOException, InterruptedException {
        return live(config(name).set("limits.download_kb_per_s", 1));
    }

    private static KoggeNode live(KoggeConfig config) throws IOException, InterruptedException {
        KoggeNode node = KoggeNode.open(config);
        node.live().await(LIMIT);
        return node;
    }
}
