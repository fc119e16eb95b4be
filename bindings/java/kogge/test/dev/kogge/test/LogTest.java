package dev.kogge.test;

import static java.nio.charset.StandardCharsets.UTF_8;

import dev.kogge.Kogge;
import dev.kogge.KoggeEvents;
import dev.kogge.KoggeNode;
import dev.kogge.KoggeStatus;
import dev.kogge.LogEntry;
import dev.kogge.LogQuery;
import dev.kogge.StoredInfo;
import java.nio.file.Files;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** Entries, proofs, what is stored, events, builds. */
final class LogTest extends Claims {
    LogTest(Scene scene) {
        super(scene);
    }

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
