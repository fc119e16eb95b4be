package dev.kogge.maven;

import dev.kogge.Artifact;
import dev.kogge.FetchRequest;
import dev.kogge.KoggeConfig;
import dev.kogge.KoggeException;
import dev.kogge.KoggeFuture;
import dev.kogge.KoggeNode;
import dev.kogge.KoggeStatus;
import dev.kogge.LogEntry;
import dev.kogge.LogQuery;
import java.io.FilterInputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.stream.Stream;

/**
 * The node of a build. Every class that touches the native library is behind this one: where there is
 * none, using it is a {@link LinkageError}.
 */
final class EmbeddedNode {
    /**
     * Builds of one user that run at the same time each use a data folder of their own, numbered from
     * 0: one folder serves one node. Beyond that a build goes on without a node.
     */
    static final int SLOTS = 8;

    /** A peer that gives nothing for so long is given up. Unit: seconds. */
    private static final int FETCH_TIMEOUT_S = 5;

    private final KoggeNode node;
    private final Path folder;
    private final KoggeFuture<Void> live;

    private EmbeddedNode(KoggeNode node, Path folder) {
        this.node = node;
        this.folder = folder;
        live = node.live();
    }

    /**
     * Opens a node in the first slot that is free.
     *
     * @throws KoggeException why there is none: what the last slot said
     */
    static EmbeddedNode open(Settings settings) throws IOException, InterruptedException {
        IOException reason = null;
        for (int slot = 0; slot < SLOTS; slot++) {
            Path folder = settings.dataFolder().resolve(String.valueOf(slot));
            try {
                return new EmbeddedNode(KoggeNode.open(config(settings, folder)), folder);
            } catch (KoggeException e) {
                reason = e;
                if (e.status() != KoggeStatus.BUSY) {
                    break;
                }
            }
        }
        throw reason;
    }

    private static KoggeConfig config(Settings settings, Path folder) throws IOException {
        use("kogge.dataDir cannot be made", folder, Files::createDirectories);
        KoggeConfig config = KoggeConfig.in(folder).set("limits.fetch_timeout_s", FETCH_TIMEOUT_S);
        if (settings.config() != null) {
            config.toml(use("kogge.config cannot be read", settings.config(), Files::readString));
            // A folder that the file names would be that of all builds.
            config.set("data_dir", folder.toAbsolutePath().toString());
        }
        if (settings.genesis() != null) {
            config.genesis(use("kogge.genesis cannot be read", settings.genesis(),
                    Files::readAllBytes));
        } else {
            config.stored();
        }
        settings.peers().forEach(config::peer);
        settings.bootstrapUrls().forEach(config::bootstrapUrl);
        return config;
    }

    private interface Use<T> {
        T of(Path path) throws IOException;
    }

    /** Uses a path that a setting names; {@code failed} tells which. */
    private static <T> T use(String failed, Path path, Use<T> use) throws IOException {
        try {
            return use.of(path);
        } catch (IOException e) {
            throw new IOException(failed + ": " + e, e);
        }
    }

    /** Waits until the node knows what the network knows; whether it does. */
    boolean isLive(Duration limit) throws InterruptedException {
        try {
            live.get(limit.toMillis(), TimeUnit.MILLISECONDS);
            return true;
        } catch (ExecutionException | TimeoutException e) {
            return false;
        }
    }

    /** The data folder. */
    Path folder() {
        return folder;
    }

    /** How the node stands, as JSON. */
    String status() throws IOException, InterruptedException {
        return node.status().await();
    }

    /** Whether the log has the file. */
    boolean has(Coordinates it) throws IOException {
        return entries(it.what).stream().anyMatch(entry -> entry.file().equals(it.file));
    }

    /** What the log has of a package, but for what was withdrawn; nothing if it lacks it. */
    List<LogEntry> entries(String what) throws IOException {
        try {
            return node.resolve(what);
        } catch (KoggeException e) {
            if (isAbsent(e)) {
                return List.of();
            }
            throw e;
        }
    }

    /** The newest entry of a file that was withdrawn; null if none was. */
    LogEntry withdrawn(String what, String file) throws IOException {
        String[] parts = what.split(":");
        String wanted = "pkg:maven/" + parts[0] + "/" + parts[1] + "@" + parts[2];
        try (LogQuery query = node.queryLog("kind=add-artifact file=" + file);
                Stream<LogEntry> entries = query.stream()) {
            return entries.filter(it -> it.removedBy().isPresent() && decoded(it.purl()).equals(wanted))
                    .findFirst().orElse(null);
        } catch (UncheckedIOException e) {
            throw e.getCause();
        } catch (KoggeException e) {
            if (isAbsent(e)) {
                return null;
            }
            throw e;
        }
    }

    private static String decoded(String purl) {
        return URLDecoder.decode(purl.replace("+", "%2B"), StandardCharsets.UTF_8);
    }

    /** A file, verified while its bytes come. Storing it takes longer, and nobody waits for that. */
    static final class Found extends FilterInputStream {
        final long size;
        final long bytesFromPeers;
        /** As the log has it. */
        final String sha256;
        private final Artifact artifact;

        Found(Artifact artifact) {
            super(artifact.newInputStream());
            this.artifact = artifact;
            size = artifact.size();
            bytesFromPeers = Math.max(0, size - artifact.info().bytesFromStore());
            sha256 = artifact.info().sha256();
        }

        @Override
        public void close() {
            artifact.close();
        }
    }

    /** The file; null if the log does not have it. */
    Found fetch(Coordinates it) throws IOException, InterruptedException {
        try {
            return found(node.fetch(FetchRequest.of(it.what).file(it.file)).await());
        } catch (KoggeException e) {
            if (isAbsent(e)) {
                return null;
            }
            throw e;
        }
    }

    private static Found found(Artifact artifact) {
        try {
            return new Found(artifact);
        } catch (Throwable e) {
            artifact.close();
            throw e;
        }
    }

    private static boolean isAbsent(KoggeException e) {
        return e.status() == KoggeStatus.NOT_FOUND
                || e.status() == KoggeStatus.INVALID_ARGUMENT;
    }

    void close() throws IOException {
        node.close();
    }
}
