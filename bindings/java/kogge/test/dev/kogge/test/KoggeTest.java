package dev.kogge.test;

import static java.nio.charset.StandardCharsets.UTF_8;

import dev.kogge.Artifact;
import dev.kogge.ArtifactInfo;
import dev.kogge.FetchRequest;
import dev.kogge.Kogge;
import dev.kogge.KoggeEvents;
import dev.kogge.KoggeException;
import dev.kogge.KoggeFuture;
import dev.kogge.KoggeNode;
import dev.kogge.KoggeStatus;
import dev.kogge.LogEntry;
import dev.kogge.LogQuery;
import dev.kogge.PlaceOption;
import dev.kogge.StoredInfo;
import java.io.InputStream;
import java.io.InterruptedIOException;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.ByteBuffer;
import java.nio.channels.ClosedChannelException;
import java.nio.channels.NonWritableChannelException;
import java.nio.channels.SeekableByteChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/**
 * Tests of `dev.kogge` against a running network: each method whose name begins with `claim` is one.
 * Arguments choose some by name.
 */
final class KoggeTest {
    private final Scene scene;

    private KoggeTest(Scene scene) {
        this.scene = scene;
    }

    public static void main(String[] names) throws Throwable {
        KoggeTest test = new KoggeTest(new Scene());
        List<Method> claims = Stream.of(KoggeTest.class.getDeclaredMethods())
                .filter(it -> it.getName().startsWith("claim"))
                .filter(it -> names.length == 0 || Arrays.asList(names).contains(it.getName()))
                .sorted(Comparator.comparing(Method::getName)).collect(Collectors.toList());
        check(!claims.isEmpty(), "no such test");
        for (Method claim : claims) {
            long begun = System.nanoTime();
            try {
                claim.invoke(test);
            } catch (InvocationTargetException e) {
                System.out.println(claim.getName() + " FAILED");
                throw e.getCause();
            }
            test.waitForNoHandles(claim.getName());
            System.out.printf("%s %d ms%n", claim.getName(), (System.nanoTime() - begun) / 1_000_000);
        }
        System.out.println("passed " + claims.size());
    }

    private interface Body {
        void run() throws Exception;
    }

    private static void check(boolean holds, Object message) {
        if (!holds) {
            throw new AssertionError(message);
        }
    }

    private static void equal(Object expected, Object found) {
        check(expected.equals(found), "expected " + expected + ", found " + found);
    }

    private static KoggeException fails(KoggeStatus status, Body body) throws Exception {
        try {
            body.run();
        } catch (KoggeException e) {
            check(e.status() == status, "expected " + status + ", found " + e.status() + ": " + e);
            return e;
        } catch (ExecutionException e) {
            check(e.getCause() instanceof KoggeException, e);
            KoggeException cause = (KoggeException) e.getCause();
            check(cause.status() == status, "expected " + status + ", found " + cause);
            return cause;
        }
        throw new AssertionError("it did not fail; expected " + status);
    }

    private static void waitUntil(String what, Body step, java.util.function.BooleanSupplier holds)
            throws Exception {
        long end = System.nanoTime() + Scene.LIMIT.toNanos();
        while (!holds.getAsBoolean()) {
            check(System.nanoTime() < end, what + ": not within " + Scene.LIMIT);
            step.run();
            Thread.sleep(10);
        }
    }

    private interface Ask<T> {
        T ask() throws KoggeException;
    }

    private static <T> T again(Ask<T> ask) throws Exception {
        AtomicReference<T> answer = new AtomicReference<>();
        waitUntil("an answer", () -> {
            try {
                answer.set(ask.ask());
            } catch (KoggeException e) {
                check(e.status() == KoggeStatus.AGAIN && e.isRetryable(), e);
            }
        }, () -> answer.get() != null);
        return answer.get();
    }

    /** Everything was freed; what the cleaner frees may take a moment. */
    private void waitForNoHandles(String name) throws Exception {
        waitUntil(name + ": no live handles, but " + Kogge.liveHandles(), System::gc,
                () -> Kogge.liveHandles() == 0);
    }

    private static FetchRequest request(Scene.Known it) {
        return FetchRequest.of(it.what).file(it.file);
    }

    // -- lifecycle ------------------------------------------------------------------------------

    void claimANodeOpensBecomesLiveAnswersAndCloses() throws Exception {
        KoggeNode node = scene.node("first");
        Map<String, Object> status = Json.object(node.status().await(Scene.LIMIT));
        check(status.containsKey("log"), status);
        check(node.id().matches("[0-9a-f]{64}"), node.id());
        check(node.query("peers", "").await().startsWith("["), "peers");
        fails(KoggeStatus.UNSUPPORTED, () -> node.query("weather", "").await());
        fails(KoggeStatus.BUSY, () -> KoggeNode.open(scene.alone("first")).close());
        try (KoggeNode second = scene.node("second")) {
            check(!second.id().equals(node.id()), "two nodes in one process are two");
        }
        Artifact open = node.fetch(request(scene.artifact("small"))).await();
        LogQuery query = node.queryLog("kind=add-artifact");
        KoggeEvents events = node.events("");
        node.close();
        node.close();
        node.closeAsync().get();
        for (Body use : List.<Body>of(() -> node.status().await(), () -> node.live().await(),
                () -> node.resolve("org.example:lib:1"), node::id, node::checkpoint,
                () -> node.fetchBytes(FetchRequest.of("org.example:lib:1")).await(),
                () -> node.queryLog(""), () -> node.events(""), () -> node.stat("sha256:00"),
                () -> open.read(0, ByteBuffer.allocate(1)), query::nextPage)) {
            fails(KoggeStatus.CLOSED, use);
        }
        fails(KoggeStatus.END, () -> {
            while (events.next(Duration.ofSeconds(5)).isPresent()) {
                continue;
            }
        });
        open.close();
        query.close();
        events.close();
        fails(KoggeStatus.CLOSED, () -> open.read(0, ByteBuffer.allocate(1)));
        fails(KoggeStatus.CLOSED, query::nextPage);
        fails(KoggeStatus.CLOSED, () -> events.next(Duration.ZERO));
        try (KoggeNode again = KoggeNode.open(scene.config("first").stored())) {
            check(!again.id().isEmpty(), "the folder keeps its network");
        }
    }

    void claimWrongConfigurationsAreToldWhenTheNodeIsOpened() throws Exception {
        check(fails(KoggeStatus.INVALID_ARGUMENT,
                () -> KoggeNode.open(scene.alone("wrong").set("no_such_key", 1)).close())
                .getMessage().contains("no_such_key"), "the key is named");
        fails(KoggeStatus.INVALID_ARGUMENT,
                () -> KoggeNode.open(scene.alone("wrong").toml("= 1")).close());
        fails(KoggeStatus.INVALID_ARGUMENT,
                () -> KoggeNode.open(scene.alone("wrong").genesis(new byte[3])).close());
        fails(KoggeStatus.INVALID_ARGUMENT,
                () -> KoggeNode.open(scene.alone("wrong").set("a..b", "c")).close());
        Path file = Files.createFile(scene.folder.resolve("a-file"));
        KoggeException notFolder = null;
        try {
            KoggeNode.open(scene.alone("a-file")).close();
        } catch (KoggeException e) {
            notFolder = e;
        }
        check(notFolder != null && Files.isRegularFile(file), "a file is no data folder");
    }

    void claimForgottenNodesAreClosedByTheCollector() throws Exception {
        for (int i = 0; i < 3; i++) {
            KoggeNode node = scene.node("forgotten");
            Artifact artifact = node.fetch(request(scene.artifact("small"))).await();
            check(artifact.size() == 100_001, artifact.size());
            node.queryLog("kind=add-artifact").nextPage();
            node.events("committed");
            node = null;
            artifact = null;
            // The next round opens the same folder, so the node must really be gone.
            waitForNoHandles("forgotten");
        }
    }

    void claimAnOpenThatIsCancelledLeavesNothing() throws Exception {
        for (int i = 0; i < 20; i++) {
            KoggeFuture<KoggeNode> opening = KoggeNode.openAsync(scene.alone("cancelled-" + i));
            if (i % 2 == 1) {
                Thread.sleep(i);
            }
            if (!opening.cancel(true)) {
                opening.get().close();
            }
            check(opening.isDone(), "cancelled futures are done");
        }
    }

    void claimAnotherClassLoaderGetsALibraryOfItsOwn() throws Exception {
        URL jar = Kogge.class.getProtectionDomain().getCodeSource().getLocation();
        check(jar.getPath().endsWith(".jar"), jar);
        ClassLoader parent = ClassLoader.getPlatformClassLoader();
        try (URLClassLoader other = new URLClassLoader(new URL[] {jar}, parent)) {
            Class<?> kogge = other.loadClass("dev.kogge.Kogge");
            check(kogge != Kogge.class, "another class");
            equal(Kogge.version(), kogge.getMethod("version").invoke(null));
            equal(0L, kogge.getMethod("liveHandles").invoke(null));
        }
    }

    // -- fetching -------------------------------------------------------------------------------

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

    // -- cancelling -----------------------------------------------------------------------------

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
                Thread.sleep(100);
                check(thread.isAlive(), "it waits, but ended with " + ended.get());
                thread.interrupt();
                thread.join(5_000);
                check(ended.get() instanceof InterruptedIOException
                        || ended.get() instanceof InterruptedException, ended.get());
            }
        }
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
            // It ends late enough for the dependent to be there before.
            FetchRequest soon = request(large).deadline(Duration.ofMillis(100));
            try {
                node.fetchBytes(soon).handle((bytes, failure) -> {
                    equal("kogge-completions", Thread.currentThread().getName());
                    return derived ? other.thenApply(it -> 1).join() : other.join().length;
                }).get(10, TimeUnit.SECONDS);
                throw new AssertionError("it did not fail");
            } catch (ExecutionException e) {
                equal(KoggeStatus.WOULD_DEADLOCK, ((KoggeException) e.getCause()).status());
            }
            other.cancel(true);
        }
        // From there a node begins to close, and does not wait.
        FetchRequest soon = request(large).deadline(Duration.ofMillis(100));
        node.fetchBytes(soon).handle((bytes, failure) -> {
            try {
                node.close();
            } catch (KoggeException e) {
                throw new CompletionException(e);
            }
            return null;
        }).get(10, TimeUnit.SECONDS);
        node.close();
    }

    // -- log ------------------------------------------------------------------------------------

    void claimTheLogIsResolvedAndQueriedPageByPage() throws Exception {
        try (KoggeNode node = scene.node("log")) {
            for (Scene.Known known : scene.artifacts()) {
                LogEntry entry = node.resolve(known.what, known.file).get(0);
                equal(List.of(known.index, known.purl, known.file, known.sha256, known.size),
                        List.of(entry.index(), entry.purl(), entry.file(), entry.sha256(),
                                entry.size()));
                equal("add-artifact", entry.kind());
                check(entry.height() > 0 && entry.time().toEpochMilli() > 0, entry);
                check(entry.removedBy().isEmpty(), entry);
                check(Json.object(entry.json()).containsKey("index"), entry.json());
                check(node.resolve(known.what).size() >= 2, "the pom and the jar");
            }
            List<Long> all;
            try (LogQuery query = node.queryLog("kind=add-artifact order=oldest");
                    Stream<LogEntry> entries = query.stream()) {
                all = entries.map(LogEntry::index).collect(Collectors.toList());
                equal("", query.resumeToken());
            }
            check(all.size() >= 8, all);
            equal(all.stream().sorted().distinct().collect(Collectors.toList()), all);
            List<Long> resumed = new ArrayList<>();
            for (String token = null; token == null || !token.isEmpty(); ) {
                String terms = "kind=add-artifact order=oldest limit=3"
                        + (token == null ? "" : " after=" + token);
                try (LogQuery query = node.queryLog(terms, true)) {
                    for (LogEntry entry : query.nextPage()) {
                        resumed.add(entry.index());
                        check(entry.json().startsWith("{"), entry.json());
                    }
                    token = query.resumeToken();
                }
            }
            equal(all, resumed);
            fails(KoggeStatus.INVALID_ARGUMENT, () -> node.queryLog("no-such-term=1"));
            try (LogQuery query = node.queryLog("package=maven/no.such/thing")) {
                equal(List.of(), query.nextPage());
                equal(List.of(), query.nextPage());
            }
        }
    }

    void claimEntriesAreProvenAndVerifiedOffline() throws Exception {
        byte[] policy;
        try (KoggeNode node = scene.node("prove")) {
            policy = node.policy();
            equal(new String(Files.readAllBytes(scene.path("policy")), UTF_8),
                    new String(policy, UTF_8));
            Scene.Known tiny = scene.artifact("tiny");
            // A node that came just now may not have heard of a checkpoint yet.
            check(new String(again(node::checkpoint), UTF_8).contains("\n\n\u2014 "), "a note");
            equal(tiny.index, Json.object(again(() -> node.prove(tiny.index))).get("index"));
            byte[] waybill = again(() -> node.waybill(tiny.index));
            equal(tiny.index, Kogge.verify(tiny.path, waybill, Kogge.Trust.policy(policy)).index());
            fails(KoggeStatus.NOT_FOUND, () -> node.waybill(1L << 40));
        }
        Kogge.Trust keys = Kogge.Trust.policy(policy);
        Kogge.Trust first = Kogge.Trust.genesis(Files.readAllBytes(scene.path("genesis")));
        for (Scene.Known known : scene.artifacts()) {
            byte[] waybill = Files.readAllBytes(known.waybill);
            for (Kogge.Trust trust : List.of(keys, first)) {
                equal(known.sha256, Kogge.verify(known.path, waybill, trust).sha256());
                equal(known.index, Kogge.verify(known.bytes(), waybill, trust).index());
            }
            byte[] bad = known.bytes();
            bad[bad.length - 1] ^= 1;
            fails(KoggeStatus.UNVERIFIED, () -> Kogge.verify(bad, waybill, keys));
            fails(KoggeStatus.UNVERIFIED, () -> Kogge.verify(known.path, new byte[9], keys));
        }
        Scene.Known tiny = scene.artifact("tiny");
        byte[] waybill = Files.readAllBytes(tiny.waybill);
        fails(KoggeStatus.INVALID_ARGUMENT,
                () -> Kogge.verify(tiny.path, waybill, Kogge.Trust.policy(new byte[] {-1})));
        equal(2, fails(KoggeStatus.NOT_FOUND,
                () -> Kogge.verify(scene.folder.resolve("none"), waybill, keys)).osCode());
    }

    // -- the rest -------------------------------------------------------------------------------

    void claimStoredArtifactsAreFoundPinnedAndEvicted() throws Exception {
        Scene.Known small = scene.artifact("small");
        Scene.Known medium = scene.artifact("medium");
        try (KoggeNode node = scene.node("keep")) {
            fails(KoggeStatus.NOT_FOUND, () -> node.stat("sha256:" + small.sha256));
            equal(small.size, node.fetchToStore(request(small)).await().bytesFromPeers());
            node.fetchToStore(request(medium)).await();
            StoredInfo stored = node.stat("sha256:" + small.sha256);
            equal(List.of(small.blake3, small.size, false),
                    List.of(stored.blake3(), stored.size(), stored.isPinned()));
            node.pin("blake3:" + small.blake3, true).await();
            check(node.stat("sha256:" + small.sha256).isPinned(), "pinned");
            // Beside the bytes, what proves them groupwise.
            check(node.shrink(0).await() >= medium.size, "what is not pinned is evicted");
            fails(KoggeStatus.NOT_FOUND, () -> node.stat("sha256:" + medium.sha256));
            node.pin("blake3:" + small.blake3, false).await();
            check(node.shrink(0).await() >= small.size, "no longer pinned");
        }
    }

    void claimEventsAreTold() throws Exception {
        try (KoggeNode node = scene.node("events"); KoggeEvents all = node.events("", -1)) {
            Optional<KoggeEvents.Event> first = all.next(Scene.LIMIT);
            check(first.isPresent() && first.get().number() == 1, first);
            HashSet<String> kinds = new HashSet<>();
            for (Optional<KoggeEvents.Event> it = first; it.isPresent(); it = all.next(Duration.ZERO)) {
                equal(it.get().kind(), Json.object(it.get().json()).get("event"));
                kinds.add(it.get().kind());
            }
            check(kinds.contains("live"), kinds);
            try (KoggeEvents none = node.events("no-such-kind")) {
                check(none.next(Duration.ofMillis(60)).isEmpty(), "nothing of that kind");
            }
        }
    }

    void claimBuildsAreAskedForAndWaitedFor() throws Exception {
        try (KoggeNode node = scene.node("build")) {
            String asked = node.requestBuild("maven org.example:lib:1").await(Scene.LIMIT);
            String id = (String) Json.object(asked).get("id");
            check(id != null && id.matches("[0-9a-f]{64}"), asked);
            Map<String, Object> end = Json.object(node.waitBuild(id).await(Scene.LIMIT));
            equal(id, end.get("id"));
            fails(KoggeStatus.NOT_FOUND, () -> node.waitBuild("0".repeat(64)).await(Scene.LIMIT));
            fails(KoggeStatus.INVALID_ARGUMENT, () -> node.waitBuild("x").await());
            fails(KoggeStatus.INVALID_ARGUMENT, () -> node.requestBuild("no spec").await());
        }
    }
}
