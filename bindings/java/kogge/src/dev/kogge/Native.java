package dev.kogge;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;

/**
 * The functions of the C interface, one to one; what they mean stands in {@code kogge.h}.
 *
 * <p>Handles are numbers: stale ones are exceptions. Texts are UTF-8. Records are read with
 * {@link Record}. {@code end} has the queue and the tag that tell the end of an operation, and room for
 * a 1 if it has ended at once, of which nobody is told.
 */
final class Native {
    /** {@code KOGGE_ABI_VERSION} that these classes were written for. */
    static final int ABI_VERSION = 1 << 16;

    static final long FOREVER = -1;

    static final int SINK_NONE = 0;
    static final int SINK_BUFFER = 1;
    static final int SINK_PATH = 2;
    static final int SINK_STREAM = 5;

    static final int NETWORK_STORED = 1;
    static final int NETWORK_GENESIS = 2;

    static {
        NativeLibrary.load();
        int abi = abiVersion();
        if (abi >>> 16 != ABI_VERSION >>> 16) {
            throw new UnsatisfiedLinkError("the native library of kogge has version " + (abi >>> 16)
                    + " of the interface, these classes want " + (ABI_VERSION >>> 16));
        }
    }

    private Native() {}

    static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] utf8) {
        return new String(utf8, StandardCharsets.UTF_8);
    }

    static native int abiVersion();

    static native byte[] version();

    static native long liveHandles();

    static native boolean isRetryable(int status);

    static native long configNew(int abi) throws KoggeException;

    static native void configSetText(long config, byte[] key, byte[] value) throws KoggeException;

    static native void configSetNumber(long config, byte[] key, long value) throws KoggeException;

    static native void configSetFlag(long config, byte[] key, boolean value) throws KoggeException;

    static native void configAdd(long config, byte[] key, byte[] value) throws KoggeException;

    static native void configMerge(long config, byte[] toml) throws KoggeException;

    static native void configNetwork(long config, int network, byte[] genesis) throws KoggeException;

    /** Keeps the log of the nodes that are opened with it; gives the number to read it with. */
    static native long configLog(long config, int maxLevel) throws KoggeException;

    /** A record of lines; waits for some. Null after the last line of the last node. */
    static native byte[] logNext(long log);

    static native void configFree(long config);

    static native long queueNew() throws KoggeException;

    /** Writes tag, operation and status of each item; gives their number, -1 if the queue is gone. */
    static native int queueNext(long queue, long timeoutMs, long[] items) throws KoggeException;

    static native void queueFree(long queue);

    static native void opCancel(long op);

    /** Writes units done and in total. */
    static native void opProgress(long op, long[] numbers) throws KoggeException;

    static native void opFinish(long op) throws KoggeException;

    static native void opFree(long op);

    static native long nodeOpen(long config, long[] end) throws KoggeException;

    static native long nodeOpenFinish(long op) throws KoggeException;

    static native long nodeClose(long node, long[] end) throws KoggeException;

    static native byte[] nodeId(long node) throws KoggeException;

    static native long nodeLive(long node, long[] end) throws KoggeException;

    static native long nodeQuery(long node, byte[] topic, byte[] params, long[] end)
            throws KoggeException;

    static native byte[] nodeQueryFinish(long op) throws KoggeException;

    /** {@code numbers}: offset and length of the range, deadline in ms, most bytes. */
    static native long fetch(long node, byte[] what, byte[] file, long[] numbers, int sink, int place,
            byte[] path, long[] end) throws KoggeException;

    /** A record of the result; the bytes of a buffer come into {@code content[0]}. */
    static native byte[] fetchFinish(long op, byte[][] content, int sink) throws KoggeException;

    static native long streamSize(long stream);

    static native long streamProgress(long stream) throws KoggeException;

    /** Bytes that were read; 0 behind the end, -1 if none came in time. */
    static native int streamRead(long stream, long offset, ByteBuffer direct, int at, int len,
            long timeoutMs) throws KoggeException;

    static native void streamFree(long stream);

    static native byte[] resolve(long node, byte[] what, byte[] file) throws KoggeException;

    static native long cursorOpen(long node, byte[] query) throws KoggeException;

    /** A record of entries; null after the last. */
    static native byte[] cursorNext(long cursor, boolean withJson) throws KoggeException;

    static native byte[] cursorToken(long cursor) throws KoggeException;

    static native void cursorFree(long cursor);

    static native byte[] checkpoint(long node) throws KoggeException;

    static native byte[] policy(long node) throws KoggeException;

    static native byte[] prove(long node, long index) throws KoggeException;

    static native byte[] waybill(long node, long index) throws KoggeException;

    static native byte[] verifyFile(byte[] path, byte[] waybill, int kind, byte[] trust)
            throws KoggeException;

    static native byte[] verifyBytes(byte[] artifact, byte[] waybill, int kind, byte[] trust)
            throws KoggeException;

    static native byte[] stat(long node, byte[] digest) throws KoggeException;

    static native long pin(long node, byte[] digest, boolean pinned, long[] end)
            throws KoggeException;

    static native long shrink(long node, long bytesMax, long[] end) throws KoggeException;

    static native long shrinkFinish(long op) throws KoggeException;

    static native long buildRequest(long node, byte[] spec, long[] end)
            throws KoggeException;

    static native long buildWait(long node, byte[] id, long[] end) throws KoggeException;

    static native byte[] buildFinish(long op) throws KoggeException;

    static native long eventsOpen(long node, byte[] kinds, long after) throws KoggeException;

    /** A record of the next event; null if none came in time. */
    static native byte[] eventsNext(long events, long timeoutMs) throws KoggeException;

    static native void eventsFree(long events);
}
