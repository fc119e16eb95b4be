package dev.kogge.maven;

import java.io.FilterInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;
import org.eclipse.aether.spi.connector.transport.AbstractTransporter;
import org.eclipse.aether.spi.connector.transport.GetTask;
import org.eclipse.aether.spi.connector.transport.PeekTask;
import org.eclipse.aether.spi.connector.transport.PutTask;
import org.eclipse.aether.spi.connector.transport.Transporter;

/** Asks the node for released files; anything else, and every failure, goes to the repository. */
final class KoggeTransporter extends AbstractTransporter {
    /** Maven 4 asks each repository for this first. */
    private static final String PREFIXES = ".meta/prefixes.txt";

    /** That of the log, which need not be computed again. */
    private static final String LOGGED = "SHA-256";

    private final KoggeSource source;
    private final Transporter repository;
    private final Set<String> checksums;

    /** {@code checksums} are the algorithms that Maven checks files of the repository by. */
    KoggeTransporter(KoggeSource source, Transporter repository, Set<String> checksums) {
        this.source = source;
        this.repository = repository;
        this.checksums = checksums;
    }

    /** The log has no such file and needs none. */
    private static final class NoPrefixes extends IOException {
        private static final long serialVersionUID = 1;
    }

    @Override
    protected void implGet(GetTask task) throws Exception {
        String path = task.getLocation().getPath();
        EmbeddedNode node = source.node();
        if (node != null && path.equals(PREFIXES)) {
            // Without the list no file is ruled out beforehand.
            throw new NoPrefixes();
        }
        Coordinates wanted = Coordinates.of(path);
        if (wanted == null) {
            repository.get(task);
            return;
        }
        EmbeddedNode.Found found = node == null ? null : find(node, wanted);
        if (found == null) {
            repository.get(task);
            source.passed();
            return;
        }
        Map<String, MessageDigest> digests = digests();
        Digesting bytes = new Digesting(found, digests.values());
        try (InputStream in = bytes) {
            utilGet(task, in, false, found.size, false);
        } catch (IOException e) {
            if (e != bytes.failure) {
                throw e;
            }
            // It begins anew.
            source.failed(wanted, e);
            repository.get(task);
            source.passed();
            return;
        }
        // Maven checks what it wrote by the bytes that were verified against the log.
        task.setChecksum(LOGGED, found.sha256);
        digests.forEach((name, digest) -> task.setChecksum(name, Digests.hex(digest.digest())));
        source.served(found.size, found.bytesFromPeers);
    }

    private EmbeddedNode.Found find(EmbeddedNode node, Coordinates wanted) {
        try {
            return node.fetch(wanted);
        } catch (IOException | RuntimeException | LinkageError | OutOfMemoryError e) {
            // Buffers outside the heap have a limit of their own.
            source.failed(wanted, e);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
        return null;
    }

    @Override
    protected void implPeek(PeekTask task) throws Exception {
        Coordinates wanted = Coordinates.of(task.getLocation().getPath());
        EmbeddedNode node = wanted == null ? null : source.node();
        try {
            if (node != null && node.has(wanted)) {
                return;
            }
        } catch (IOException | RuntimeException | LinkageError e) {
            source.failed(wanted, e);
        }
        repository.peek(task);
    }

    @Override
    protected void implPut(PutTask task) throws Exception {
        repository.put(task);
    }

    @Override
    public int classify(Throwable error) {
        return error instanceof NoPrefixes ? ERROR_NOT_FOUND : repository.classify(error);
    }

    @Override
    protected void implClose() {
        repository.close();
    }

    private Map<String, MessageDigest> digests() {
        Map<String, MessageDigest> digests = new LinkedHashMap<>();
        for (String name : checksums) {
            try {
                if (!LOGGED.equals(name)) {
                    digests.put(name, MessageDigest.getInstance(name));
                }
            } catch (NoSuchAlgorithmException e) {
                // An algorithm of another extension: Maven asks the repository for that checksum.
                continue;
            }
        }
        return digests;
    }

    /** Sees the bytes that go by. */
    private static final class Digesting extends FilterInputStream {
        private final Iterable<MessageDigest> digests;
        /** Why the node's bytes ended early; not what went wrong where they were written. */
        private IOException failure;

        Digesting(InputStream in, Iterable<MessageDigest> digests) {
            super(in);
            this.digests = digests;
        }

        @Override
        public int read() throws IOException {
            byte[] one = new byte[1];
            return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
        }

        @Override
        public int read(byte[] target, int from, int len) throws IOException {
            int count;
            try {
                count = super.read(target, from, len);
            } catch (IOException e) {
                failure = e;
                throw e;
            } catch (RuntimeException | LinkageError e) {
                failure = new IOException(e);
                throw failure;
            }
            if (count > 0) {
                digests.forEach(it -> it.update(target, from, count));
            }
            return count;
        }

        @Override
        public long skip(long count) throws IOException {
            // What is skipped would not be counted.
            return count > 0 && read() >= 0 ? 1 : 0;
        }

        @Override
        public boolean markSupported() {
            return false;
        }
    }
}
