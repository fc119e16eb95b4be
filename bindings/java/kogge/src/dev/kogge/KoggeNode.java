package dev.kogge;

import java.io.InputStream;
import java.lang.ref.Cleaner;
import java.lang.ref.Reference;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Consumer;

/**
 * A running node. Any thread may call anything; what waits is a {@link KoggeFuture}. After
 * {@code close} every call fails with {@link KoggeStatus#CLOSED}. A node that is forgotten while
 * nothing of it is in use is closed by the garbage collector.
 */
public final class KoggeNode implements AutoCloseable {
    /** How long {@link #close} waits; closing goes on after that. */
    private static final Duration CLOSE_LIMIT = Duration.ofSeconds(60);

    private final long node;
    private final Pump pump;
    private final Closing closing;
    private final Cleaner.Cleanable cleanable;

    private KoggeNode(long node, Pump pump) {
        this.node = node;
        this.pump = pump;
        closing = new Closing(node, pump);
        cleanable = Owned.CLEANER.register(this, closing);
    }

    /**
     * Opens a node and waits until it answers.
     *
     * @throws KoggeException {@link KoggeStatus#BUSY} if another node uses the data folder, or what
     *     else is in the way
     * @throws InterruptedException if this thread is interrupted; then no node is open
     */
    public static KoggeNode open(KoggeConfig config) throws KoggeException, InterruptedException {
        return openAsync(config).await();
    }

    /** Opens a node. Cancelling the future closes what was opened. */
    public static KoggeFuture<KoggeNode> openAsync(KoggeConfig config) throws KoggeException {
        long settings = config.build();
        try {
            Pump pump = new Pump();
            KoggeFuture<KoggeNode> opened = pump.start(null, end -> Native.nodeOpen(settings, end),
                    op -> new KoggeNode(Native.nodeOpenFinish(op), pump), KoggeNode::closeAsync,
                    KoggeFuture.Then.STOP_ON_FAILURE);
            if (opened.isCompletedExceptionally() && !opened.isCancelled()) {
                pump.stop();
            }
            return opened;
        } finally {
            Native.configFree(settings);
        }
    }

    /**
     * Waits until the node has reached the head of the log: until then it may not know what the
     * network knows, and {@link KoggeStatus#NOT_FOUND} means little.
     */
    public KoggeFuture<Void> live() {
        return start(end -> Native.nodeLive(node, end), KoggeNode::nothing, null);
    }

    /** The node's identity: an ed25519 public key in hex. */
    public String id() throws KoggeException {
        return ask(() -> Record.hex(Native.nodeId(node)));
    }

    /** How the node stands, as JSON. */
    public KoggeFuture<String> status() {
        return query("status", "");
    }

    /**
     * Asks about a node: {@code status}, {@code peers}, {@code builds}, {@code build} (parameter
     * {@code id}), {@code config}, {@code genesis}, {@code metrics}. The answer is JSON, and so are the
     * parameters unless they are empty.
     */
    public KoggeFuture<String> query(String topic, String paramsJson) {
        byte[] name = Native.utf8(topic);
        byte[] params = Native.utf8(paramsJson);
        return start(end -> Native.nodeQuery(node, name, params, end),
                op -> Native.text(Native.nodeQueryFinish(op)), null);
    }

    /**
     * The entries of what is named (see {@link FetchRequest#of}): one for a digest or a file, else all
     * files of the package version.
     *
     * @throws KoggeException {@link KoggeStatus#NOT_FOUND} if the log has none: see {@link #live}
     */
    public List<LogEntry> resolve(String what) throws KoggeException {
        return resolve(what, "");
    }

    /** The entries of one file of what is named. */
    public List<LogEntry> resolve(String what, String file) throws KoggeException {
        byte[] name = Native.utf8(what);
        byte[] part = Native.utf8(file);
        return LogEntry.list(ask(() -> Native.resolve(node, name, part)));
    }

    /**
     * Opens an artifact: from the store, else from peers, verified against the log. It can be read
     * while it arrives, and must be closed.
     */
    public KoggeFuture<Artifact> fetch(FetchRequest request) {
        return fetch(request, Native.SINK_STREAM, 0, "", (result, content) -> {
            ArtifactInfo info = new ArtifactInfo(result);
            return new Artifact(this, info, result.number());
        }, Artifact::close);
    }

    /** Opens what is named. */
    public KoggeFuture<Artifact> fetch(String what) {
        return fetch(FetchRequest.of(what));
    }

    /** Fetches all bytes, or those of the range. */
    public KoggeFuture<byte[]> fetchBytes(FetchRequest request) {
        return fetch(request, Native.SINK_BUFFER, 0, "", (result, content) -> content[0], null);
    }

    /** Fetches to a file, which appears whole or not at all. */
    public KoggeFuture<ArtifactInfo> fetchTo(FetchRequest request, Path file,
            PlaceOption... options) {
        int flags = 0;
        for (PlaceOption option : options) {
            flags |= option.flag;
        }
        return fetch(request, Native.SINK_PATH, flags, file.toAbsolutePath().toString(),
                (result, content) -> new ArtifactInfo(result), null);
    }

    /** Fetches into the store only. */
    public KoggeFuture<ArtifactInfo> fetchToStore(FetchRequest request) {
        return fetch(request, Native.SINK_NONE, 0, "",
                (result, content) -> new ArtifactInfo(result), null);
    }

    /**
     * A stream of the bytes of an artifact, which must be closed. Waits until it is found.
     *
     * @throws KoggeException why there is none
     * @throws InterruptedException if this thread is interrupted
     */
    public InputStream openStream(FetchRequest request) throws KoggeException, InterruptedException {
        return fetch(request).await().asInputStream();
    }

    private interface Make<T> {
        T make(Record result, byte[][] content) throws KoggeException;
    }

    private <T> KoggeFuture<T> fetch(FetchRequest request, int sink, int place, String path,
            Make<T> make, Consumer<T> release) {
        byte[] target = Native.utf8(path);
        return start(end -> Native.fetch(node, request.what(), request.fileName(),
                request.numbers(), sink, place, target, end), op -> {
                    byte[][] content = new byte[1][];
                    return make.make(new Record(Native.fetchFinish(op, content, sink)), content);
                }, release);
    }

    /**
     * Queries the log. Terms {@code name=value}, divided by spaces, must all hold: package, purl, file,
     * digest, publisher, node, source, commit, dependency, subject, tag, kind, since, until; and order
     * ({@code newest}, {@code oldest}), limit (entries of a page, at most 1,000), after (a token of
     * {@link LogQuery#resumeToken}, to go on with a query of the same filters).
     *
     * @throws KoggeException {@link KoggeStatus#INVALID_ARGUMENT} naming the term
     */
    public LogQuery queryLog(String query) throws KoggeException {
        return queryLog(query, false);
    }

    /** As the other; {@code withJson} gives {@link LogEntry#json}. */
    public LogQuery queryLog(String query, boolean withJson) throws KoggeException {
        byte[] text = Native.utf8(query);
        return new LogQuery(this, ask(() -> Native.cursorOpen(node, text)), withJson);
    }

    /**
     * The newest checkpoint: a signed note (C2SP) with the cosignatures of a quorum.
     *
     * @throws KoggeException {@link KoggeStatus#AGAIN} if there is none yet
     */
    public byte[] checkpoint() throws KoggeException {
        return ask(() -> Native.checkpoint(node));
    }

    /** Whose signatures make a checkpoint of this network, for {@link Kogge.Trust#policy}. */
    public byte[] policy() throws KoggeException {
        return ask(() -> Native.policy(node));
    }

    /** That an entry is in the log (RFC 6962): JSON with index, size, root and path. */
    public String prove(long index) throws KoggeException {
        return ask(() -> Native.text(Native.prove(node, index)));
    }

    /**
     * The waybill of an entry (c2sp.org/tlog-proof), for {@link Kogge#verify}.
     *
     * @throws KoggeException {@link KoggeStatus#AGAIN} if no checkpoint covers it yet
     */
    public byte[] waybill(long index) throws KoggeException {
        return ask(() -> Native.waybill(node, index));
    }

    /**
     * Asks the authorized nodes to add a package, such as {@code maven org.example:lib:1.0}. The answer
     * is how the build stands, as JSON with {@code id}, {@code state} and {@code reason}. Asking twice
     * gives the same build.
     */
    public KoggeFuture<String> requestBuild(String spec) {
        byte[] text = Native.utf8(spec);
        return start(end -> Native.buildRequest(node, text, end),
                op -> Native.text(Native.buildFinish(op)), null);
    }

    /** Waits until a build is in the log or has failed. The answer is how it stands, as JSON. */
    public KoggeFuture<String> waitBuild(String id) {
        byte[] text = Native.utf8(id);
        return start(end -> Native.buildWait(node, text, end),
                op -> Native.text(Native.buildFinish(op)), null);
    }

    /**
     * What is stored, whole, under a digest ({@code blake3:} or {@code sha256:} and hex).
     *
     * @throws KoggeException {@link KoggeStatus#NOT_FOUND} if nothing is
     */
    public StoredInfo stat(String digest) throws KoggeException {
        byte[] text = Native.utf8(digest);
        return new StoredInfo(new Record(ask(() -> Native.stat(node, text))));
    }

    /** Keeps a stored artifact from being evicted, or no longer. */
    public KoggeFuture<Void> pin(String digest, boolean isPinned) {
        byte[] text = Native.utf8(digest);
        return start(end -> Native.pin(node, text, isPinned, end),
                KoggeNode::nothing, null);
    }

    /**
     * Evicts what was used least lately until at most {@code bytesMax} bytes are stored, or all that is
     * left is pinned or in use. Gives the bytes that became free.
     */
    public KoggeFuture<Long> shrink(long bytesMax) {
        if (bytesMax < 0) {
            throw new IllegalArgumentException("a negative number of bytes");
        }
        return start(end -> Native.shrink(node, bytesMax, end),
                Native::shrinkFinish, null);
    }

    /**
     * Subscribes to what happens from now on. {@code kinds} are names divided by commas, such as
     * {@code committed,build}; empty means all.
     */
    public KoggeEvents events(String kinds) throws KoggeException {
        return events(kinds, 0);
    }

    /** Subscribes to events after the one with a number; -1 for all that are remembered. */
    public KoggeEvents events(String kinds, long after) throws KoggeException {
        byte[] names = Native.utf8(kinds);
        return new KoggeEvents(this, ask(() -> Native.eventsOpen(node, names, after)));
    }

    /** Starts to close: cancels what runs, tells all ends, stops the threads. */
    public CompletableFuture<Void> closeAsync() {
        // Another future, so that cancelling it changes nothing for others who wait.
        return closing.begin().thenApply(it -> it);
    }

    /**
     * Closes the node and waits for it. Does nothing the second time. What was got from the node stays
     * to be closed. On the thread that completes futures it only begins to close.
     *
     * @throws KoggeException {@link KoggeStatus#TIMED_OUT} after a minute; closing goes on
     */
    @Override
    public void close() throws KoggeException {
        KoggeFuture<Void> closed = closing.begin();
        if (pump.isHere()) {
            return;
        }
        try {
            closed.get(CLOSE_LIMIT.toMillis(), TimeUnit.MILLISECONDS);
        } catch (InterruptedException e) {
            // It goes on without this thread.
            Thread.currentThread().interrupt();
        } catch (TimeoutException e) {
            throw new KoggeException(KoggeStatus.TIMED_OUT, "the node is not closed yet");
        } catch (ExecutionException e) {
            throw KoggeFuture.failure(e);
        } finally {
            cleanable.clean();
        }
    }

    /** Closes a node once, for who closes it and for the cleaner; it does not know the node. */
    private static final class Closing implements Runnable {
        private final long node;
        private final Pump pump;
        private KoggeFuture<Void> closed;

        Closing(long node, Pump pump) {
            this.node = node;
            this.pump = pump;
        }

        synchronized KoggeFuture<Void> begin() {
            // A start that failed may be repeated.
            if (closed == null || closed.isCompletedExceptionally() && !closed.isCancelled()) {
                closed = pump.start(null, end -> Native.nodeClose(node, end),
                        KoggeNode::nothing, null, KoggeFuture.Then.STOP);
            }
            return closed;
        }

        synchronized boolean isBegun() {
            return closed != null;
        }

        @Override
        public void run() {
            begin();
        }
    }

    private static Void nothing(long op) throws KoggeException {
        Native.opFinish(op);
        return null;
    }

    private interface Ask<T> {
        T ask() throws KoggeException;
    }

    private <T> T ask(Ask<T> ask) throws KoggeException {
        try {
            return ask.ask();
        } catch (KoggeException e) {
            throw meaning(e);
        } finally {
            Reference.reachabilityFence(this);
        }
    }

    private <T> KoggeFuture<T> start(Pump.Start start, KoggeFuture.Finish<T> finish,
            Consumer<T> release) {
        return pump.start(this, end -> ask(() -> start.start(end)), finish, release,
                KoggeFuture.Then.GO_ON);
    }

    /** A handle that is stale after closing says so. */
    private KoggeException meaning(KoggeException e) {
        return closing.isBegun() && e.status() == KoggeStatus.BAD_HANDLE
                ? new KoggeException(KoggeStatus.CLOSED, "the node is closed") : e;
    }
}
