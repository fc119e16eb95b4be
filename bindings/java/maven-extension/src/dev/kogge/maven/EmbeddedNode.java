package dev.kogge.maven;

import dev.kogge.Artifact;
import dev.kogge.FetchRequest;
import dev.kogge.KoggeConfig;
import dev.kogge.KoggeException;
import dev.kogge.KoggeFuture;
import dev.kogge.KoggeNode;
import dev.kogge.KoggeStatus;
import dev.kogge.LogEntry;
import java.io.FilterInputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

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
        Files.createDirectories(folder);
        KoggeConfig config = KoggeConfig.in(folder).set("limits.fetch_timeout_s", FETCH_TIMEOUT_S);
        if (settings.config() != null) {
            config.toml(Files.readString(settings.config()));
        }
        if (settings.genesis() != null) {
            config.genesis(settings.genesis());
        } else {
            config.stored();
        }
        settings.peers().forEach(config::peer);
        settings.bootstrapUrls().forEach(config::bootstrapUrl);
        return config;
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

    /** What the log has of a package; nothing if it lacks it. */
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

    /** A file, verified while its bytes come. Storing it takes longer, and nobody waits for that. */
    static final class Found extends FilterInputStream {
        final long size;
        final long bytesFromPeers;
        private final Artifact artifact;

        Found(Artifact artifact) {
            super(artifact.newInputStream());
            this.artifact = artifact;
            size = artifact.size();
            bytesFromPeers = Math.max(0, size - artifact.info().bytesFromStore());
        }

        @Override
        public void close() {
            artifact.close();
        }
    }

    /** The file; null if the log does not have it. */
    Found fetch(Coordinates it) throws IOException, InterruptedException {
        try {
            return new Found(node.fetch(FetchRequest.of(it.what).file(it.file)).await());
        } catch (KoggeException e) {
            if (isAbsent(e)) {
                return null;
            }
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
