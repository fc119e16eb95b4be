package dev.kogge;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.ClosedChannelException;
import java.nio.channels.NonWritableChannelException;
import java.nio.channels.SeekableByteChannel;

/** A position in an artifact. */
final class ArtifactChannel implements SeekableByteChannel {
    private final Artifact artifact;
    private long at;
    private volatile boolean isClosed;

    ArtifactChannel(Artifact artifact) {
        this.artifact = artifact;
    }

    @Override
    public synchronized int read(ByteBuffer target) throws IOException {
        check();
        int count = artifact.read(at, target);
        at += Math.max(count, 0);
        return count;
    }

    @Override
    public synchronized long position() throws IOException {
        check();
        return at;
    }

    @Override
    public synchronized SeekableByteChannel position(long position) throws IOException {
        check();
        if (position < 0) {
            throw new IllegalArgumentException("a negative position");
        }
        at = position;
        return this;
    }

    @Override
    public long size() throws IOException {
        check();
        return artifact.size();
    }

    @Override
    public int write(ByteBuffer source) {
        throw new NonWritableChannelException();
    }

    @Override
    public SeekableByteChannel truncate(long size) {
        throw new NonWritableChannelException();
    }

    @Override
    public boolean isOpen() {
        return !isClosed && artifact.isOpen();
    }

    @Override
    public void close() {
        isClosed = true;
    }

    private void check() throws ClosedChannelException {
        if (!isOpen()) {
            throw new ClosedChannelException();
        }
    }
}
