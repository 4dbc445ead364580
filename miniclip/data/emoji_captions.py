"""What a training step may call an emoji: by its name, and by what is true of others as well.

The words are emojibase's: a name, some tags and a subgroup, with emojilib's keywords; of Openclipart's drawings a
title, keywords and a folder. `captions` hold the name. `descriptions` do not: each is true of many emoji, "fruit" or
"something to eat", and teaches the model to find what somebody describes.
"""

# Phrases that a training caption stands in.
TEMPLATES = [
    "{}", "an emoji of {}", "a drawing of {}", "a picture of {}", "an image of {}", "an icon of {}", "a photo of {}",
    "a symbol of {}", "a small picture of {}", "a simple drawing of {}", "clip art of {}", "a painting of {}",
    "a sticker of {}", "a {}", "the {}", "{} emoji", "{} icon", "this is {}", "it shows {}", "a black and white {}",
    "{} on white", "a close view of {}", "a good drawing of {}", "one {}",
]  # fmt: skip
PROMPTS = ["{}", "an emoji of {}", "a drawing of {}"]  # averaged in evaluations
DESCRIPTION_TEMPLATES = [
    "{}", "a picture of {}", "something about {}", "something to do with {}", "it shows {}", "an emoji about {}",
    "something {}", "something for {}", "things for {}", "{} things", "a thing of {}", "things that {}", "some {}",
    "all kinds of {}", "anything about {}", "what belongs to {}", "related to {}", "a sign of {}", "the idea of {}",
    "show me {}", "I am looking for {}", "{} and the like", "being {}", "somebody {}", "with {}", "for {}", "of {}",
    "in {}", "at {}", "to {}",
]  # fmt: skip
TAGS_BESIDE_NAME = 6

# What a subgroup of emojibase's is, in the words of somebody who looks for it.
KINDS = {
    "arts-crafts": "art, crafts, making things",
    "award-medal": "an award, a prize, winning a contest",
    "event": "a celebration, a festival, a party",
    "game": "a game, something to play with, a toy",
    "sport": "sport, sports equipment, a ball game or exercise",
    "animal-amphibian": "an animal, an amphibian",
    "animal-bird": "an animal, a bird, an animal with feathers",
    "animal-bug": "an animal, an insect, a bug",
    "animal-mammal": "an animal, a mammal, an animal with fur",
    "animal-marine": "an animal, a sea animal, an animal that lives in water",
    "animal-reptile": "an animal, a reptile",
    "plant-flower": "a plant, a flower",
    "plant-other": "a plant, leaves, something that grows",
    "dishware": "dishes, cutlery, something to eat with",
    "drink": "a drink, something to drink, a beverage",
    "food-asian": "food, a meal, something to eat, Asian food",
    "food-fruit": "food, fruit, something to eat",
    "food-prepared": "food, a meal, something to eat",
    "food-sweet": "food, a dessert, something sweet, something to eat",
    "food-vegetable": "food, a vegetable, something to eat",
    "book-paper": "something to read, paper, a document",
    "clothing": "clothes, something to wear",
    "computer": "a computer, electronics, technology",
    "household": "a thing in the house, furniture, household goods",
    "light-video": "light, film or video, a device that shines or records",
    "lock": "a lock, a key, security",
    "mail": "mail, a letter, post",
    "medical": "medicine, health care, something in a hospital",
    "money": "money, payment, finance",
    "music": "music, musical notes, sound",
    "musical-instrument": "a musical instrument, music, something to make music with",
    "office": "office supplies, work at a desk, stationery",
    "other-object": "an object",
    "phone": "a telephone, a device to call with",
    "science": "science, a laboratory, research",
    "sound": "sound, noise, volume",
    "tool": "a tool, something to work with",
    "writing": "writing, something to write or draw with",
    "body-parts": "a part of the body",
    "family": "a family, people, parents and children",
    "hand-fingers-closed": "a hand, a gesture, a fist",
    "hand-fingers-open": "a hand, a gesture, an open hand",
    "hand-fingers-partial": "a hand, a gesture, a sign made with fingers",
    "hand-prop": "a hand that holds something",
    "hand-single-finger": "a hand, a pointing finger",
    "hands": "hands, a gesture of both hands",
    "person": "a person, somebody",
    "person-activity": "a person, somebody who does something",
    "person-fantasy": "a person of fantasy, a figure from a tale",
    "person-gesture": "a person, somebody who makes a gesture",
    "person-resting": "a person, somebody at rest",
    "person-role": "a person, a profession, somebody at work",
    "person-sport": "a person, sport, somebody who does sport",
    "person-symbol": "people, a symbol of people",
    "cat-face": "a face, an animal, a cat with an expression",
    "emotion": "a feeling, an emotion",
    "face-affection": "a face, love, an affectionate face",
    "face-concerned": "a face, an unhappy or worried face",
    "face-costume": "a face, a costume, a creature",
    "face-glasses": "a face, a face with glasses",
    "face-hand": "a face, a face with a hand",
    "face-hat": "a face, a face with a hat",
    "face-negative": "a face, an angry face",
    "face-neutral-skeptical": "a face, a doubtful or neutral face",
    "face-sleepy": "a face, a tired face",
    "face-smiling": "a face, a happy face, a smile",
    "face-tongue": "a face, a tongue, a cheeky face",
    "face-unwell": "a face, illness, a face that is not well",
    "heart": "love, a heart",
    "monkey-face": "an animal, a monkey",
    "alphanum": "letters or numbers, a sign with text",
    "arrow": "an arrow, a direction",
    "av-symbol": "a button of a player, a control",
    "currency": "money, a currency",
    "gender": "a symbol, gender",
    "geometric": "a shape, geometry, a coloured shape",
    "keycap": "a number, a key of a keyboard",
    "math": "mathematics, a calculation",
    "other-symbol": "a symbol, a sign",
    "punctuation": "punctuation, a mark in a text",
    "religion": "religion, a religious symbol, faith",
    "transport-sign": "a sign, a sign for travellers",
    "warning": "a warning, a sign that forbids",
    "zodiac": "astrology, a sign of the zodiac",
    "hotel": "a hotel, service for travellers",
    "place-building": "a building, a house, architecture",
    "place-geographic": "a landscape, nature, a place to visit",
    "place-map": "a map, geography, the world",
    "place-other": "a place, a view, somewhere to go",
    "place-religious": "a building, religion, a place of worship",
    "sky-weather": "the sky, weather",
    "time": "time, a clock",
    "transport-air": "a vehicle, flying, a way to travel by air",
    "transport-ground": "a vehicle, traffic, a way to travel on land",
    "transport-water": "a vehicle, a boat, a way to travel on water",
    # Openclipart's folders; of the others, such as "icons", nothing can be said
    "alcohol": "a drink, alcohol, something to drink",
    "animals": "an animal",
    "arrows": "an arrow, a direction",
    "astronomy": "the sky, astronomy, space",
    "beverages": "a drink, something to drink, a beverage",
    "birds": "an animal, a bird, an animal with feathers",
    "boating": "a vehicle, a boat, a way to travel on water",
    "books": "something to read, a book",
    "breads-and-carbs": "food, something to eat, bread or pasta",
    "bugs": "an animal, an insect, a bug",
    "buildings": "a building, a house, architecture",
    "chess": "a game, chess",
    "containers": "a container, something to put things in",
    "desserts": "food, a dessert, something sweet, something to eat",
    "dinosaurs": "an animal, a dinosaur",
    "dogs": "an animal, a dog, an animal with fur",
    "education": "a school, something to learn with",
    "electronics": "electronics, technology",
    "fish": "an animal, a fish, an animal that lives in water",
    "flowers": "a plant, a flower",
    "food": "food, a meal, something to eat",
    "fruit": "food, fruit, something to eat",
    "furniture": "furniture, a thing in the house",
    "games": "a game, something to play with",
    "hats": "a hat, clothes, something to wear",
    "holiday": "a celebration, a holiday",
    "homes": "a building, a house",
    "housecats": "an animal, a cat, an animal with fur",
    "mammals": "an animal, a mammal, an animal with fur",
    "meats-and-eggs": "food, something to eat, meat or eggs",
    "people": "a person, somebody",
    "plants": "a plant, something that grows",
    "recreation": "leisure, something to do in one's free time",
    "roadsigns": "a sign, traffic, a sign at the road",
    "shapes": "a shape, geometry",
    "signs-and-symbols": "a sign, a symbol",
    "smileys": "a face, an emotion",
    "sports": "sport, sports equipment, a ball game or exercise",
    "stick-figures": "a person, a stick figure",
    "tools": "a tool, something to work with",
    "toys": "a toy, something to play with",
    "transportation": "a vehicle, a way to travel",
    "trees": "a plant, a tree",
    "vehicles": "a vehicle, a way to travel",
    "weapons": "a weapon, something dangerous",
    "weather": "the sky, weather",
}  # fmt: skip


def captions(entry):
    """What an emoji is called, its name in each: the name alone, first, and with its kind or one of its tags."""
    name = entry["name"]
    tags = [tag for tag in entry["tags"] if tag.lower() not in name.lower().split()][:TAGS_BESIDE_NAME]
    with_tone = [name.replace(": ", " with ")] if name.endswith("skin tone") else []
    kind = [f"{name}, {entry['subgroup'].replace('-', ' ')}"] if entry["subgroup"] in KINDS else []
    return [name, *with_tone, *kind, *(f"{name}, {tag}" for tag in tags)]


def descriptions(entry, words_of):
    """What is true of an emoji and of others: its tags and keywords, and the words of its kind.

    words_of: {name: tags and keywords} of the catalogue: a person of one skin tone has those of the person.
    """
    name, _, tone = entry["name"].partition(": ")
    words = entry["tags"] + entry["keywords"] or words_of.get(name, [])
    return list(dict.fromkeys([*words, *kinds_of(entry), *([tone] if tone.endswith("skin tone") else [])]))


def kinds_of(entry):
    """The phrases that say what an emoji's subgroup is, or none."""
    return KINDS[entry["subgroup"]].split(", ") if entry["subgroup"] in KINDS else []
