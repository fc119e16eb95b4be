package dev.kogge.maven;

import java.io.FilterInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.LinkedHashMap;
import java.util.Map;
import org.eclipse.aether.spi.connector.transport.AbstractTransporter;
import org.eclipse.aether.spi.connector.transport.GetTask;
import org.eclipse.aether.spi.connector.transport.PeekTask;
import org.eclipse.aether.spi.connector.transport.PutTask;
import org.eclipse.aether.spi.connector.transport.Transporter;

/** Asks the node for released files; anything else, and every failure, goes to the repository. */
final class KoggeTransporter extends AbstractTransporter {
    /** Maven 4 asks each repository for this first. */
    private static final String PREFIXES = ".meta/prefixes.txt";

    /** Those that Maven may check by. */
    private static final String[] CHECKSUMS = {"SHA-1", "SHA-256", "SHA-512", "MD5"};

    private final KoggeSource source;
    private final Transporter repository;

    KoggeTransporter(KoggeSource source, Transporter repository) {
        this.source = source;
        this.repository = repository;
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
        digests.forEach((name, digest) -> task.setChecksum(name, hex(digest.digest())));
        source.served(found.size, found.bytesFromPeers);
    }

    private EmbeddedNode.Found find(EmbeddedNode node, Coordinates wanted) {
        try {
            return node.fetch(wanted);
        } catch (IOException | RuntimeException | LinkageError e) {
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

    private static Map<String, MessageDigest> digests() throws NoSuchAlgorithmException {
        Map<String, MessageDigest> digests = new LinkedHashMap<>();
        for (String name : CHECKSUMS) {
            digests.put(name, MessageDigest.getInstance(name));
        }
        return digests;
    }

    private static String hex(byte[] bytes) {
        StringBuilder text = new StringBuilder(2 * bytes.length);
        for (byte it : bytes) {
            text.append(Character.forDigit(it >> 4 & 0xf, 16)).append(Character.forDigit(it & 0xf, 16));
        }
        return text.toString();
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
