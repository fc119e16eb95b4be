//! Names and documents of packages.

use kogge_node::base::Sha256;

use crate::seeds::{Seeds, texts};

pub(super) fn purls() -> Seeds {
    let alpine = format!("pkg:docker/library/alpine@sha256:{}", Sha256([1; 32]));
    texts(&[
        "pkg:maven/org.example/lib@1.0",
        "pkg:maven/org.example/lib@1.0%2Bb?classifier=sources&type=jar",
        &alpine,
        &alpine
            .replace("library/alpine", "team/app")
            .replace("sha256:", "sha256%3A"),
        "pkg:docker/team/app@1.0?repository_url=registry.test:5000",
        "pkg:npm/%40scope/name@1.2.3#sub/path",
        "pkg:deb/debian/curl@7.50.3-1?arch=i386&distro=jessie",
    ])
}

pub(super) fn images() -> Seeds {
    let digest = format!("sha256:{}", Sha256([1; 32]));
    texts(&[
        "alpine",
        "library/alpine:3.20",
        "docker.io/team/app:1.0",
        "registry.test:5000/team/app:1.0",
        &format!("localhost/app@{digest}"),
        &format!("[::1]:5000/a/b__c/d-e:t@{digest}"),
        "platform linux/amd64",
        "platform linux/arm/v7",
    ])
}

pub(super) fn mavens() -> Seeds {
    texts(&[
        "org.example:lib:1.0",
        "junit:junit:4.13.2",
        "org/example/lib/1.0/lib-1.0.jar",
        "org/example/lib/1.0/lib-1.0-sources.jar.sha1",
        "org/example/lib/1.0-SNAPSHOT/lib-1.0-20260102.030405-7.tar.gz.asc",
        "org/example/lib/maven-metadata.xml.md5",
        "1.0-alpha-1 1.0.0-rc2-SNAPSHOT",
        "2_final.1 2.0.sp",
    ])
}

pub(super) fn xml() -> Seeds {
    texts(&[
        "<?xml version=\"1.0\"?>\n<project xmlns=\"x\"><!-- c --><parent><groupId>g</groupId>\
         <artifactId>p</artifactId><version>1</version></parent><packaging>bundle</packaging>\
         <dependencies><dependency><groupId>a</groupId><artifactId>b</artifactId>\
         <version>[1,2)</version><scope>test</scope></dependency></dependencies>\
         <dependencyManagement><dependencies><dependency><groupId>c</groupId>\
         <scope>import</scope></dependency></dependencies></dependencyManagement></project>",
        "<settings><mirrors><mirror><id>m</id><url>http://a/&amp;&#x41;</url></mirror>\
         </mirrors></settings>",
        "<a b=\"c\"><![CDATA[<x>]]><d/></a>",
    ])
}

pub(super) fn oci() -> Seeds {
    let digest = format!("sha256:{}", "0".repeat(64));
    let index = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\
         \"manifests\":[{{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\
         \"digest\":\"{digest}\",\"size\":7,\"platform\":{{\"os\":\"linux\",\
         \"architecture\":\"arm\",\"variant\":\"v7\"}}}}],\"annotations\":{{\"a\":\"b\"}}}}"
    );
    let manifest = format!(
        "{{\"schemaVersion\":2,\"config\":{{\"mediaType\":\"c\",\"digest\":\"{digest}\",\
         \"size\":1}},\"layers\":[{{\"mediaType\":\"l\",\"digest\":\"{digest}\",\"size\":2}}],\
         \"subject\":{{\"mediaType\":\"s\",\"digest\":\"{digest}\",\"size\":3}}}}"
    );
    let config = "{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{}}";
    texts(&[&index, &manifest, config])
}
