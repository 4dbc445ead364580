"""The command `python -m miniclip index`: where the pairs of tars lie."""

INDEX = (("tars", {}, "as in 'shards/{00000..00122}.tar', in quotes; or with *, or a folder that holds nothing else"),)


def run_index(options):
    """index: each tar for itself; those that are indexed are passed over. Status 2 where one is refused."""
    from collections import Counter

    from tqdm import tqdm

    from ..data import index_tar, tar_paths

    paths, total, left_out, refused = tar_paths(options.tars), 0, Counter(), []
    for path in tqdm(paths, disable=None, unit="tar"):
        try:
            count, missing = index_tar(path)
            total += count
            left_out.update(missing)
        except (ValueError, FileNotFoundError) as error:
            refused.append(str(error))
    print(f"{total:,} pairs in {len(paths) - len(refused):,} tars are indexed.")
    for what, count in left_out.items():
        if count:
            print(f"Left out: {count:,} {what}.")
    for why in refused[1:]:
        print(f"Refused: {why}")
    if refused:
        others = f" {len(refused) - 1:,} others are refused too: see above." if refused[1:] else ""
        raise ValueError(f"{refused[0]}{others}")
