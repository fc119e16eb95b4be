package dev.kogge.test;

import dev.kogge.Artifact;
import dev.kogge.ArtifactInfo;
import dev.kogge.FetchRequest;
import dev.kogge.Kogge;
import dev.kogge.KoggeEvents;
import dev.kogge.KoggeException;
import dev.kogge.KoggeFuture;
import dev.kogge.KoggeNode;
import dev.kogge.KoggeStatus;
import dev.kogge.LogQuery;
import dev.kogge.PlaceOption;
import java.io.InputStream;
import java.io.InterruptedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.ClosedChannelException;
import java.nio.channels.NonWritableChannelException;
import java.nio.channels.SeekableByteChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;

/** Fetching artifacts, and ending that. */
final class FetchTest extends Claims {
    /** The thread that completes futures. */
    private static final String PUMP = "kogge-completions";

    FetchTest(Scene scene) {
        super(scene);
    }

    void claimAllWaysOfFetchingGiveTheSameBytes() throws Exception {
        try (KoggeNode node = scene.node("fetch")) {
            for (Scene.Known known : scene.artifacts()) {
                byte[] expected = known.bytes();
                check(Arrays.equals(expected, node.fetchBytes(request(known)).await()), known.name);
                try (Artifact artifact = node.fetch(request(known)).await()) {
                    ArtifactInfo info = artifact.info();
                    equal(List.of(known.blake3, known.sha256, known.size, known.index), List.of(
                            info.blake3(), info.sha256(), info.size(), info.logIndex()));
                    try (InputStream in = artifact.newInputStream()) {
                        check(Arrays.equals(expected, in.readAllBytes()), known.name);
                    }
                    readAnywhere(artifact, expected);
                }
                try (InputStream in = node.openStream(FetchRequest.of("sha256:" + known.sha256))) {
                    check(Arrays.equals(expected, in.readAllBytes()), known.name);
                }
                Path file = scene.folder.resolve("fetched-" + known.name);
                ArtifactInfo info = node.fetchTo(request(known), file).await();
                check(Arrays.equals(expected, Files.readAllBytes(file)), known.name);
                equal(known.size, info.bytesFromStore());
                fails(KoggeStatus.EXISTS, () -> node.fetchTo(request(known), file).await());
                node.fetchTo(request(known), file, PlaceOption.REPLACE, PlaceOption.HARD_LINK).await();
                check(Arrays.equals(expected, Files.readAllBytes(file)), known.name);
                byte[] part = node.fetchBytes(request(known).range(1_000, 77)).await();
                check(Arrays.equals(Arrays.copyOfRange(expected, 1_000, 1_077), part), "a range");
            }
        }
    }

    private static void readAnywhere(Artifact artifact, byte[] expected) throws Exception {
        SeekableByteChannel channel = artifact.newByteChannel();
        equal((long) expected.length, channel.size());
        for (int at : new int[] {expected.length - 10, 0, expected.length / 2, 4_096}) {
            for (ByteBuffer buffer : new ByteBuffer[] {
                ByteBuffer.allocate(10), ByteBuffer.allocateDirect(10), ByteBuffer.allocate(64)
                        .position(20).slice().limit(10)}) {
                channel.position(at);
                while (buffer.hasRemaining() && channel.read(buffer) >= 0) {
                    continue;
                }
                byte[] found = new byte[10];
                buffer.flip().get(found);
                check(Arrays.equals(Arrays.copyOfRange(expected, at, at + 10), found), at);
                equal(at + 10L, channel.position());
            }
        }
        channel.position(expected.length + 5L);
        equal(-1, channel.read(ByteBuffer.allocate(1)));
        try {
            channel.write(ByteBuffer.allocate(1));
            throw new AssertionError("wrote");
        } catch (NonWritableChannelException e) {
            check(channel.isOpen(), "still open");
        }
        channel.close();
        try {
            channel.position();
            throw new AssertionError("not closed");
        } catch (ClosedChannelException e) {
            check(artifact.available() == expected.length, "the artifact stays open");
        }
        try (InputStream in = artifact.newInputStream()) {
            equal(100L, in.skip(100));
            in.mark(0);
            int first = in.read();
            equal(expected[100] & 0xff, first);
            in.reset();
            equal(first, in.read());
            equal(expected.length - 101, in.available());
        }
    }

    void claimFailuresOfFetchesHaveTheirStatus() throws Exception {
        try (KoggeNode node = scene.node("failures")) {
            String absent = scene.text("absent");
            KoggeException missing = fails(KoggeStatus.NOT_FOUND, () -> node.fetch(absent).await());
            check(!missing.isRetryable() && missing.number() == 20, missing);
            check(missing.getCause() instanceof KoggeException, "from the thread that learned it");
            fails(KoggeStatus.NOT_FOUND, () -> node.resolve(absent));
            KoggeException several = fails(KoggeStatus.INVALID_ARGUMENT,
                    () -> node.fetch("org.example:lib:1").await());
            check(several.detail().contains("lib-1.jar"), several.detail());
            fails(KoggeStatus.INVALID_ARGUMENT, () -> node.fetch("\u0000").await());
            fails(KoggeStatus.INVALID_ARGUMENT, () -> node.fetch("").await());
            FetchRequest small = request(scene.artifact("small"));
            fails(KoggeStatus.QUOTA, () -> node.fetchBytes(small.maxBytes(10)).await());
            Path nowhere = scene.folder.resolve("no/such/folder/file");
            KoggeException io = fails(KoggeStatus.IO,
                    () -> node.fetchTo(request(scene.artifact("tiny")), nowhere).await());
            equal(2, io.osCode());
            fails(KoggeStatus.INVALID_ARGUMENT, () -> node.stat("sha256:zz"));
        }
        equal(KoggeStatus.UNKNOWN, KoggeStatus.of(4_711));
        for (KoggeStatus status : KoggeStatus.values()) {
            equal(status, KoggeStatus.of(status.number()));
        }
    }

    void claimWhatEndsAtOnceTellsHowFarItCame() throws Exception {
        Scene.Known tiny = scene.artifact("tiny");
        try (KoggeNode node = scene.node("at-once")) {
            node.fetchToStore(request(tiny)).await();
            KoggeFuture<byte[]> stored = node.fetchBytes(request(tiny));
            equal(true, stored.isDone());
            equal((long) stored.await().length, stored.progress().done());
        }
    }

    void claimTwoThousandFetchesRunAtOnce() throws Exception {
        Scene.Known tiny = scene.artifact("tiny");
        byte[] expected = tiny.bytes();
        try (KoggeNode node = scene.node("many")) {
            List<KoggeFuture<byte[]>> fetches = new ArrayList<>();
            Thread[] threads = new Thread[8];
            for (int i = 0; i < threads.length; i++) {
                threads[i] = new Thread(() -> {
                    for (int n = 0; n < 250; n++) {
                        KoggeFuture<byte[]> fetch = node.fetchBytes(request(tiny));
                        synchronized (fetches) {
                            fetches.add(fetch);
                        }
                    }
                });
                threads[i].start();
            }
            for (Thread thread : threads) {
                thread.join();
            }
            equal(2_000, fetches.size());
            for (KoggeFuture<byte[]> fetch : fetches) {
                check(Arrays.equals(expected, fetch.await(Scene.LIMIT)), "the bytes");
            }
        }
    }

    void claimCancellingAFutureCancelsItsOperation() throws Exception {
        try (KoggeNode node = scene.slow("cancel")) {
            long before = Kogge.liveHandles();
            FetchRequest large = request(scene.artifact("large"));
            for (int i = 0; i < 10; i++) {
                KoggeFuture<byte[]> fetch = node.fetchBytes(large);
                if (i % 2 == 0) {
                    waitUntil("progress", () -> { }, () -> fetch.progress().total() != 0);
                    equal(64L << 20, fetch.progress().total());
                }
                check(fetch.cancel(true) && fetch.isCancelled(), "cancelled");
            }
            KoggeFuture<byte[]> late = node.fetchBytes(large);
            late.orTimeout(20, TimeUnit.MILLISECONDS);
            try {
                late.get();
                throw new AssertionError("it came");
            } catch (ExecutionException e) {
                check(e.getCause() instanceof TimeoutException, e);
            }
            fails(KoggeStatus.TIMED_OUT, () -> node.fetchBytes(large).await(Duration.ofMillis(20)));
            fails(KoggeStatus.TIMED_OUT,
                    () -> node.fetchBytes(request(scene.artifact("large"))
                            .deadline(Duration.ofMillis(20))).await());
            waitUntil("operations end", () -> { }, () -> Kogge.liveHandles() == before);
        }
    }

    void claimAnInterruptionEndsWhatWaits() throws Exception {
        try (KoggeNode node = scene.slow("interrupt");
                Artifact large = node.fetch(request(scene.artifact("large"))).await();
                KoggeEvents events = node.events("tag-bound")) {
            for (Body body : List.<Body>of(
                    () -> large.read(50 << 20, ByteBuffer.allocateDirect(1)),
                    () -> {
                        try (InputStream in = large.newInputStream()) {
                            in.readAllBytes();
                        }
                    },
                    () -> events.next(Duration.ofDays(1)),
                    () -> node.fetchBytes(request(scene.artifact("large"))).await())) {
                AtomicReference<Throwable> ended = new AtomicReference<>();
                Thread thread = new Thread(() -> {
                    try {
                        body.run();
                    } catch (Throwable e) {
                        ended.set(e);
                    }
                });
                thread.start();
                waitUntil("it waits", () -> check(thread.isAlive(), "ended with " + ended.get()),
                        () -> waits(thread));
                thread.interrupt();
                thread.join(5_000);
                check(ended.get() instanceof InterruptedIOException
                        || ended.get() instanceof InterruptedException, ended.get());
            }
        }
    }

    /** In a call of a node that takes as long as the network does. */
    private static boolean waits(Thread thread) {
        return Arrays.stream(thread.getStackTrace()).map(StackTraceElement::getMethodName)
                .anyMatch(Set.of("streamRead", "eventsNext", "await")::contains);
    }

    void claimClosingEndsWhatRunsAndWaits() throws Exception {
        Scene.Known tiny = scene.artifact("tiny");
        KoggeNode node = scene.slow("close");
        Artifact large = node.fetch(request(scene.artifact("large"))).await();
        KoggeFuture<byte[]> fetch = node.fetchBytes(request(scene.artifact("large")));
        AtomicInteger ended = new AtomicInteger();
        AtomicReference<Throwable> wrong = new AtomicReference<>();
        List<Body> uses = new ArrayList<>();
        uses.add(() -> large.read(60 << 20, ByteBuffer.allocateDirect(8)));
        uses.add(() -> fetch.get());
        for (int i = 0; i < 6; i++) {
            uses.add(() -> {
                while (true) {
                    node.status().await();
                    node.resolve(tiny.what);
                    try (LogQuery query = node.queryLog("")) {
                        query.nextPage();
                    }
                }
            });
        }
        List<Thread> threads = new ArrayList<>();
        for (Body use : uses) {
            Thread thread = new Thread(() -> {
                try {
                    use.run();
                } catch (Exception e) {
                    Throwable cause = e instanceof ExecutionException ? e.getCause() : e;
                    KoggeStatus status = cause instanceof KoggeException
                            ? ((KoggeException) cause).status() : null;
                    if (status != KoggeStatus.CLOSED && status != KoggeStatus.CANCELLED) {
                        wrong.set(e);
                    }
                }
                ended.incrementAndGet();
            });
            thread.start();
            threads.add(thread);
        }
        Thread.sleep(200);
        equal(0, ended.get());
        node.close();
        for (Thread thread : threads) {
            thread.join(10_000);
        }
        check(wrong.get() == null, wrong.get());
        equal(uses.size(), ended.get());
        large.close();
    }

    void claimTheThreadThatCompletesFuturesCannotWaitForItself() throws Exception {
        KoggeNode node = scene.slow("deadlock");
        Scene.Known large = scene.artifact("large");
        for (boolean derived : new boolean[] {false, true}) {
            KoggeFuture<byte[]> other = node.fetchBytes(request(large));
            try {
                onItsThread(node, () -> derived ? other.thenApply(it -> 1).join()
                        : other.join().length).get(10, TimeUnit.SECONDS);
                throw new AssertionError("it did not fail");
            } catch (ExecutionException e) {
                equal(KoggeStatus.WOULD_DEADLOCK, ((KoggeException) e.getCause()).status());
            }
            other.cancel(true);
        }
        // From there a node begins to close, and does not wait.
        onItsThread(node, () -> {
            node.close();
            return null;
        }).get(10, TimeUnit.SECONDS);
        node.close();
    }

    /** Runs something on the thread that completes the node's futures. */
    private <T> CompletableFuture<T> onItsThread(KoggeNode node, Callable<T> task) throws Exception {
        FetchRequest soon = request(scene.artifact("large")).deadline(Duration.ofMillis(10));
        CountDownLatch isAttached = hold(node, soon);
        CompletableFuture<T> done = node.fetchBytes(soon).handle((bytes, failure) -> {
            equal(PUMP, Thread.currentThread().getName());
            try {
                return task.call();
            } catch (RuntimeException e) {
                throw e;
            } catch (Exception e) {
                throw new CompletionException(e);
            }
        });
        isAttached.countDown();
        return done;
    }

    /** Keeps that thread until the latch is open. */
    private static CountDownLatch hold(KoggeNode node, FetchRequest soon) throws Exception {
        while (true) {
            CountDownLatch latch = new CountDownLatch(1);
            CompletableFuture<Boolean> holds = new CompletableFuture<>();
            node.fetchBytes(soon).handle((bytes, failure) -> {
                // On another thread, it had ended before this was attached.
                boolean isPump = Thread.currentThread().getName().equals(PUMP);
                holds.complete(isPump);
                try {
                    return isPump && latch.await(Scene.LIMIT.toSeconds(), TimeUnit.SECONDS);
                } catch (InterruptedException e) {
                    throw new CompletionException(e);
                }
            });
            if (holds.get(Scene.LIMIT.toSeconds(), TimeUnit.SECONDS)) {
                return latch;
            }
        }
    }
}
