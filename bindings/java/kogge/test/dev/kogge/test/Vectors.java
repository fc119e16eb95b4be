package dev.kogge.test;

import dev.kogge.ArtifactInfo;
import dev.kogge.FetchRequest;
import dev.kogge.Kogge;
import dev.kogge.KoggeNode;
import dev.kogge.LogEntry;
import dev.kogge.LogQuery;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/** Prints what Java sees of the scene, as a document that is the same in every language. */
final class Vectors {
    private Vectors() {}

    public static void main(String[] none) throws Exception {
        Scene scene = new Scene();
        List<Object> artifacts = new ArrayList<>();
        List<Object> entries = new ArrayList<>();
        try (KoggeNode node = scene.node("vectors")) {
            Kogge.Trust trust = Kogge.Trust.policy(Files.readAllBytes(scene.path("policy")));
            for (Scene.Known known : scene.artifacts()) {
                FetchRequest request = FetchRequest.of(known.what).file(known.file);
                ArtifactInfo info = node.fetchToStore(request).await();
                byte[] waybill = Files.readAllBytes(known.waybill);
                LogEntry proven = Kogge.verify(node.fetchBytes(request).await(), waybill, trust);
                artifacts.add(Map.of("name", known.name, "blake3", info.blake3(), "sha256",
                        info.sha256(), "size", info.size(), "log_index", info.logIndex(),
                        "verified_offline", proven.index() == info.logIndex()));
            }
            try (LogQuery query = node.queryLog("kind=add-artifact order=oldest");
                    Stream<LogEntry> found = query.stream()) {
                found.forEach(it -> entries.add(
                        List.of(it.index(), it.purl(), it.file(), it.sha256())));
            }
        }
        System.out.println(Json.write(Map.of("artifacts", artifacts, "entries", entries)));
    }
}
