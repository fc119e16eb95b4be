package dev.kogge;

import java.io.IOException;
import java.io.InputStream;
import java.io.InterruptedIOException;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.channels.SeekableByteChannel;

/**
 * An artifact that is open for reading, anywhere, while it still arrives. Only verified bytes are
 * given out. Any number of threads may read.
 */
public final class Artifact extends Owned {
    /** How long a read waits before it looks whether its thread was interrupted. Unit: ms. */
    private static final long SLICE_MS = 50;

    /** Bytes that a read into memory of Java passes through. */
    private static final int COPY_BYTES = 1 << 18;

    private final ArtifactInfo info;

    Artifact(KoggeNode node, ArtifactInfo info, long stream) {
        super(node, stream, Native::streamFree);
        this.info = info;
    }

    /** What the log says of it. Its numbers of bytes by source are of the moment it was opened. */
    public ArtifactInfo info() {
        return info;
    }

    /** Its length. Unit: bytes. */
    public long size() {
        return info.size();
    }

    /**
     * Bytes that are here and verified.
     *
     * @throws KoggeException {@link KoggeStatus#CLOSED} if it or its node is closed
     */
    public long available() throws KoggeException {
        try {
            return Native.streamProgress(handle());
        } catch (KoggeException e) {
            throw meaning(e);
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    /**
     * Reads bytes from {@code offset} on as soon as some have come; fewer than there is room for may
     * come at any time. Direct buffers are filled without a copy.
     *
     * @return how many bytes; -1 behind the end
     * @throws InterruptedIOException if the thread is interrupted while it waits
     * @throws KoggeException why there are none
     */
    public int read(long offset, ByteBuffer target) throws IOException {
        if (offset < 0) {
            throw new IllegalArgumentException("a negative offset");
        }
        if (!target.hasRemaining()) {
            return 0;
        }
        if (target.isDirect() && !target.isReadOnly()) {
            int count = fill(offset, target, target.position(), target.remaining());
            if (count > 0) {
                target.position(target.position() + count);
            }
            return count;
        }
        return new Copy(target.remaining()).read(offset, target);
    }

    /** A stream of its bytes from the beginning. Closing it does not close the artifact. */
    public InputStream newInputStream() {
        return new Input(false);
    }

    /** A stream that owns the artifact. */
    InputStream asInputStream() {
        return new Input(true);
    }

    /** A channel of its bytes, for reading. Closing it does not close the artifact. */
    public SeekableByteChannel newByteChannel() {
        return new ArtifactChannel(this);
    }

    private int fill(long offset, ByteBuffer direct, int at, int len) throws IOException {
        try {
            while (true) {
                int count = Native.streamRead(handle(), offset, direct, at, len, SLICE_MS);
                if (count >= 0) {
                    return count == 0 ? -1 : count;
                }
                if (Thread.currentThread().isInterrupted()) {
                    throw new InterruptedIOException("interrupted while bytes were awaited");
                }
            }
        } catch (KoggeException e) {
            throw meaning(e);
        } finally {
            Reference.reachabilityFence(this);
            Reference.reachabilityFence(direct);
        }
    }

    /** Reads into memory of Java: by way of a direct buffer. */
    final class Copy {
        private final ByteBuffer direct;

        Copy(long bytes) {
            direct = ByteBuffer.allocateDirect((int) Math.max(1, Math.min(bytes, COPY_BYTES)));
        }

        int read(long offset, ByteBuffer target) throws IOException {
            int len = Math.min(target.remaining(), direct.capacity());
            int count = fill(offset, direct, 0, len);
            if (count > 0) {
                direct.clear().limit(count);
                target.put(direct);
            }
            return count;
        }
    }

    private final class Input extends InputStream {
        private final boolean isOwner;
        private final Copy copy = new Copy(size());
        private long at;
        private long mark;
        private boolean isClosed;

        Input(boolean isOwner) {
            this.isOwner = isOwner;
        }

        @Override
        public int read() throws IOException {
            byte[] one = new byte[1];
            return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
        }

        @Override
        public synchronized int read(byte[] target, int from, int len) throws IOException {
            if (isClosed) {
                throw KoggeException.closed();
            }
            ByteBuffer wrapped = ByteBuffer.wrap(target, from, len);
            if (len == 0) {
                return 0;
            }
            int count = copy.read(at, wrapped);
            at += Math.max(count, 0);
            return count;
        }

        @Override
        public synchronized long skip(long count) {
            long skipped = Math.max(0, Math.min(count, size() - at));
            at += skipped;
            return skipped;
        }

        @Override
        public synchronized int available() throws IOException {
            long here = Artifact.this.available();
            return here == size() ? (int) Math.min(Integer.MAX_VALUE, size() - at) : 0;
        }

        @Override
        public boolean markSupported() {
            return true;
        }

        @Override
        public synchronized void mark(int limit) {
            mark = at;
        }

        @Override
        public synchronized void reset() {
            at = mark;
        }

        @Override
        public void close() {
            isClosed = true;
            if (isOwner) {
                Artifact.this.close();
            }
        }
    }
}
