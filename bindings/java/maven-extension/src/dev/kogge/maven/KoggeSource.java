package dev.kogge.maven;

import java.io.IOException;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.atomic.AtomicLong;
import javax.inject.Named;
import javax.inject.Singleton;
import org.eclipse.aether.RepositorySystemSession;
import org.eclipse.aether.repository.RemoteRepository;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * The node of this Maven process, opened when the first file is wanted, and what it did. A node that
 * cannot be opened, is not live in time, or fails time and again is not asked any more: the build goes
 * on with its repositories.
 */
@Named
@Singleton
public final class KoggeSource {
    private static final Logger LOG = LoggerFactory.getLogger(KoggeSource.class);

    /** Fetches in a row that may fail for other reasons than that the log lacks a file. */
    private static final int FAILURES_MAX = 3;

    private Settings settings;
    private EmbeddedNode node;
    /** Why there is no node. */
    private String without;
    private int failures;

    private final AtomicLong verified = new AtomicLong();
    private final AtomicLong fromPeers = new AtomicLong();
    private final AtomicLong fromHere = new AtomicLong();
    private final AtomicLong others = new AtomicLong();

    /** Whether files of a repository are looked for in the network. */
    synchronized boolean serves(RepositorySystemSession session, RemoteRepository repository) {
        if (!repository.getProtocol().startsWith("http")
                || !"default".equals(repository.getContentType())) {
            return false;
        }
        if (settings == null && without != null) {
            return false;
        }
        if (settings == null) {
            try {
                settings = Settings.of(session);
            } catch (IOException | RuntimeException e) {
                LOG.warn("kogge: its settings cannot be read: {}", e.toString());
                without = "its settings cannot be read";
                return false;
            }
        }
        return settings.isEnabled() && isChosen(repository, settings.repositories());
    }

    /** By id, also behind a mirror. Maven 4 may add a hash to an id. */
    private static boolean isChosen(RemoteRepository repository, List<String> ids) {
        String id = repository.getId();
        boolean isNamed = ids.contains("*") || ids.contains(id)
                || ids.stream().anyMatch(it -> id.matches(java.util.regex.Pattern.quote(it)
                        + "-[0-9a-f]{40}"));
        return isNamed
                || repository.getMirroredRepositories().stream().anyMatch(it -> isChosen(it, ids));
    }

    /** The node, if it knows what the network knows; null to go on without. */
    synchronized EmbeddedNode node() {
        if (without != null || settings == null) {
            return null;
        }
        try {
            if (node == null) {
                Duration limit = settings.liveLimit();
                node = EmbeddedNode.open(settings);
                if (!node.isLive(limit)) {
                    LOG.debug("kogge: no peer answered within {} s", limit.getSeconds());
                }
            }
            // It may have become live later than the build wanted to wait.
            return node.isLive(Duration.ZERO) ? node : null;
        } catch (IOException | RuntimeException | LinkageError e) {
            without(e);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        return null;
    }

    private void without(Throwable reason) {
        without = Reason.of(reason);
        LOG.debug("kogge: going on without a node", reason);
    }

    /** A file came from the node. */
    synchronized void served(long size, long peers) {
        failures = 0;
        verified.incrementAndGet();
        fromPeers.addAndGet(peers);
        fromHere.addAndGet(size - peers);
    }

    /** A file came from a repository. */
    void passed() {
        others.incrementAndGet();
    }

    /** The node did not work for a file. */
    synchronized void failed(Object file, Throwable reason) {
        LOG.debug("kogge: {} comes from the repository", file, reason);
        failures++;
        if (FAILURES_MAX <= failures && without == null) {
            without(reason);
        }
    }

    /** The end of the build: closes the node and says what it did. */
    synchronized void finish() {
        if (node != null) {
            try {
                node.close();
            } catch (IOException | RuntimeException | LinkageError e) {
                LOG.debug("kogge: the node did not close", e);
            }
        }
        if (verified.get() + others.get() != 0) {
            LOG.info(summary());
        }
        settings = null;
        node = null;
        without = null;
        failures = 0;
        List.of(verified, fromPeers, fromHere, others).forEach(it -> it.set(0));
    }

    private String summary() {
        String files = String.format("kogge: %d files verified against the log (%s from peers, %s "
                        + "from this machine), %d files from repositories", verified.get(),
                amount(fromPeers.get()), amount(fromHere.get()), others.get());
        if (without != null) {
            return files + "; no node: " + without;
        }
        return node == null || verified.get() != 0 ? files : files + "; " + standing();
    }

    private String standing() {
        try {
            return node.isLive(Duration.ZERO) ? "the log has none of them" : "no peer answered in time";
        } catch (InterruptedException | RuntimeException | LinkageError e) {
            return "the node was closed";
        }
    }

    private static String amount(long bytes) {
        if (bytes < 1_000) {
            return bytes + " B";
        }
        return bytes < 1_000_000 ? String.format(java.util.Locale.ROOT, "%.1f kB", bytes / 1e3)
                : String.format(java.util.Locale.ROOT, "%.1f MB", bytes / 1e6);
    }
}
